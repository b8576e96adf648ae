/** The command line of `deno task bench quality-base`: flags, defaults, help and error texts. */
import { parseArgs } from "@std/cli/parse-args";
import type { DtypeChoice } from "../../src/executor/precision.ts";
import { oneOf, whole } from "../values.ts";

const DTYPES: readonly DtypeChoice[] = ["auto", "int8", "int4", "file", "fp32"];

export const HELP = `deno task bench quality-base [flags]

What a base loses by how it is served, against its file dequantised to float32 and computed layer by
layer: perplexity, KL divergence (nats) and how often the likeliest token is the same, over windows of
a text, each from position 0. Served logits come from the executor that requests run on.
The figure is kept in the cache: servers of the same base tell it in /v1/models and warn above +1%.

  --model SPEC      as the server's (default: the packaged SmolLM2)
  --dtype LIST      ${DTYPES.join(", ")} (default auto)
  --max-batch N     as the server's: 1 has kernels of its own (default 16)
  --text FILE       default: tests/fixtures/texts/heldout.txt, on which nothing is calibrated
  --window N        tokens of a window (default 512)
  --windows N       most windows (default: all of the text)

Everything but the last line is for people; the last line is JSON.`;

export interface QualityFlags {
  readonly model: string | undefined;
  readonly dtypes: readonly DtypeChoice[];
  readonly maxBatch: number;
  readonly text: string | undefined;
  readonly window: number;
  readonly windows: number | undefined;
}

const NAMES = ["model", "dtype", "max-batch", "text", "window", "windows"] as const;

/**
 * Undefined where help is asked for.
 * @throws {TypeError} for an unknown flag, or a value that cannot be
 */
export function parseQualityFlags(args: readonly string[]): QualityFlags | undefined {
  const given = parseArgs([...args], {
    string: [...NAMES],
    boolean: ["help"],
    alias: { help: "h" },
    unknown: (arg) => {
      throw new TypeError(`Cannot bench quality-base: there is no flag ${arg}`);
    },
  });
  if (given.help) return undefined;
  const { windows } = given;
  return {
    model: given.model,
    dtypes: (given.dtype ?? "auto").split(",").map((one) => oneOf("--dtype", one, DTYPES)),
    maxBatch: whole("max-batch", given["max-batch"] ?? "16"),
    text: given.text,
    window: whole("window", given.window ?? "512", 2),
    windows: windows === undefined ? undefined : whole("windows", windows),
  };
}
