/** Numbers that Python wrote, as typed arrays. */
import { parseSafetensors } from "../../src/checkpoint/formats/safetensors.ts";

/** Tensors of a fixture file by name. */
export class Expected {
  readonly #tensors: ReturnType<typeof parseSafetensors>["tensors"];

  constructor(path: string | URL) {
    this.#tensors = parseSafetensors(Deno.readFileSync(path)).tensors;
  }

  floats(name: string): Float32Array {
    return new Float32Array(this.#bytes(name));
  }

  integers(name: string): number[] {
    return Array.from(new BigInt64Array(this.#bytes(name)), Number);
  }

  #bytes(name: string): ArrayBuffer {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new RangeError(`The fixture has no tensor ${name}`);
    return tensor.data.slice().buffer as ArrayBuffer;
  }
}
