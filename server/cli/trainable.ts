/** The base that `deno task train` and `deno task factors` work on: a decoder's checkpoint from a spec. */
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { isEncoder } from "../../src/checkpoint/encoder/open.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { resolveModel, type ResolveOptions } from "../../src/checkpoint/fetch/resolve.ts";
import { naming } from "./flags.ts";

/** @throws {TypeError | RangeError} where the spec names no decoder that can be had */
export async function openTrainable(
  spec: string | undefined,
  options: ResolveOptions = {},
): Promise<Checkpoint> {
  return await naming("--model", spec ?? "", async () => {
    const path = await resolveModel(spec, options);
    if (!await isEncoder(path)) return await openCheckpoint(path);
    throw new TypeError(
      "it is an encoder, and cores of encoders are not trained yet: name a decoder, such as a " +
        "folder or GGUF of Llama or Qwen",
    );
  });
}
