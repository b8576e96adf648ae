/** The one command for a graphics card, on a device in software; a minute or two, so only at length. */
import { assert, assertEquals, assertLess } from "@std/assert";
import { LONG } from "../../long.ts";
import { onWebGpu, SoftwareGpu } from "../../programs/software_gpu.ts";

const SCRIPT = new URL("../../../bench/gpu.sh", import.meta.url).pathname;
const MODEL = new URL("../../fixtures/checkpoint/llama.gguf", import.meta.url);

/** A folder beside the command, with a model in parts. */
async function parts(): Promise<string> {
  const folder = await Deno.makeTempDir();
  const bytes = await Deno.readFile(MODEL);
  const middle = bytes.length >> 1;
  await Deno.writeFile(`${folder}/given.gguf.part-000`, bytes.subarray(0, middle));
  await Deno.writeFile(`${folder}/given.gguf.part-001`, bytes.subarray(middle));
  return folder;
}

if (LONG) {
  Deno.test({
    ...onWebGpu("bench/gpu.sh measures all parts in one go, and ends in a line of JSON"),
    fn: async () => {
      await using gpu = await SoftwareGpu.unpack();
      const folder = await parts();
      const { code, stdout, stderr } = await new Deno.Command("bash", {
        args: [SCRIPT, "--tiny"],
        env: { ...gpu.env, DENO: Deno.execPath(), LEMBAS_GPU_FILES: folder, NO_COLOR: "1" },
      }).output();
      const text = new TextDecoder();
      assertEquals(code, 0, text.decode(stderr));
      const last = text.decode(stdout).trimEnd().split("\n").at(-1) ?? "";
      const { bench, adapter, figures, torch } = JSON.parse(last);
      assertEquals(bench, "gpu");
      assert(adapter.startsWith("SwiftShader"), adapter);
      const failed = Object.keys(figures).filter((part) => part.endsWith("failed"));
      assertEquals(failed, [], JSON.stringify(figures));
      const { tokensAlike, tokens, worst } = figures.correctness;
      assertEquals(tokensAlike, tokens);
      assertLess(worst, 1e-3);
      for (const base of ["tiny float", "tiny 8 bit", "given.gguf"]) {
        const part = (name: string) =>
          Object.keys(figures).find((key) => key.includes(base) && key.endsWith(name)) ?? "";
        assertEquals(figures[part(": decode")].length, 4);
        assertEquals(figures[part(": prefill")].length, 2);
        assertEquals(figures[part(": training")].losses.length, 4);
        assert(figures[part(": memory")].rss > 0);
      }
      assert(torch !== undefined);
      await Deno.remove(folder, { recursive: true });
    },
  });
}
