/** Rows with what a teacher says of them as one safetensors file, and back to the last bit. */
import {
  parseSafetensors,
  type SafetensorsTensor,
  writeSafetensors,
} from "../../../src/checkpoint/formats/safetensors.ts";
import type { Example, Teaching } from "../../../src/train/gradients/model.ts";

const FORMAT = "lembas.teaching/1";

/** @param digest of all that the rows were made of */
export function writeTaught(rows: readonly Example[], digest: string): Uint8Array<ArrayBuffer> {
  const teachings = rows.map(teachingIn);
  const lengths = rows.map(({ tokens }) => tokens.length);
  return writeSafetensors(
    [
      ["lines", ints(rows.map(({ line }) => line))],
      ["lengths", ints(lengths)],
      ["tokens", ints(rows.flatMap(({ tokens }) => Array.from(tokens)))],
      ["weights", floats(rows.map(({ weights }) => weights))],
      ["taught", ints(teachings.flatMap(({ tokens }) => Array.from(tokens)))],
      ["shares", floats(teachings.map(({ shares }) => shares))],
    ],
    Object.entries({ format: FORMAT, digest, count: String(teachings[0]?.count ?? 0) }),
  );
}

/** @throws {TypeError} for what is no such file, or one of other rows or another teacher */
export function readTaught(bytes: Uint8Array, digest: string): readonly Example[] {
  const { metadata, tensors } = parseSafetensors(bytes);
  const [format, of] = [metadata.get("format"), metadata.get("digest")];
  if (format !== FORMAT || of !== digest) {
    throw new TypeError(
      `Cannot read a teacher's rows: the file is ${format} of ${of}, ${FORMAT} of ${digest} is wanted`,
    );
  }
  const count = Number(metadata.get("count"));
  const take = (name: string) => {
    const tensor = tensors.get(name);
    if (tensor !== undefined) return tensor.data.slice().buffer;
    throw new TypeError(`Cannot read a teacher's rows: the file has no '${name}'`);
  };
  const [tokens, weights] = [new Int32Array(take("tokens")), new Float32Array(take("weights"))];
  const [taught, shares] = [new Int32Array(take("taught")), new Float32Array(take("shares"))];
  const lines = new Int32Array(take("lines"));
  let [at, position] = [0, 0];
  return Array.from(new Int32Array(take("lengths")), (length, i) => {
    const [start, first] = [at, position];
    at += length;
    const own = weights.slice(start, at);
    position += own.filter((weight, i) => i > 0 && weight !== 0).length;
    const teaching = {
      count,
      tokens: taught.slice(first * count, position * count),
      shares: shares.slice(first * (count + 1), position * (count + 1)),
    };
    return { tokens: tokens.slice(start, at), weights: own, line: lines[i], teaching };
  });
}

function teachingIn({ line, teaching }: Example): Teaching {
  if (teaching !== undefined) return teaching;
  throw new TypeError(`internal: line ${line} was not taught`);
}

function ints(values: readonly number[]): SafetensorsTensor {
  return { dtype: "I32", shape: [values.length], data: bytesOf(Int32Array.from(values)) };
}

function floats(parts: readonly Float32Array[]): SafetensorsTensor {
  const values = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    values.set(part, at);
    at += part.length;
  }
  return { dtype: "F32", shape: [values.length], data: bytesOf(values) };
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
