/**
 * The digest that names a base model: SHA-256 over its canonical config and its source tensors'
 * bytes, remembered in the cache by path, size and time of change.
 */

import { createHash } from "node:crypto";
import { writeAtomically } from "./fetch/cache.ts";
import type { DecoderConfig, Rows, WeightInfo, WeightSource } from "./checkpoint.ts";
import { PLAIN_FORM, plainScale } from "./architectures/architecture.ts";
import { expectedWeights } from "./expected_weights.ts";

/** Changes whenever what is hashed changes. */
const SCHEME = "lembas.base/1";

/**
 * Hashes the config and every weight of the decoder, in the model's order, 64 MB at a time at most.
 * The event loop gets a turn in between.
 */
export function modelDigest(config: DecoderConfig, weights: WeightSource): Promise<string> {
  return weightsDigest(digestedConfig(config), weights, expectedWeights(config).keys());
}

/** The same of any model. @param names of its weights, in the model's order; default: all */
export async function weightsDigest(
  config: object,
  weights: WeightSource,
  names: Iterable<string> = weights.names(),
): Promise<string> {
  const hash = createHash("sha256");
  hash.update(`${SCHEME}\n${canonicalJson(config)}\n`);
  for (const name of names) {
    const { type, shape } = weights.info(name);
    hash.update(`${name} ${type} [${shape}]\n`);
    for (const rows of piecesOf(weights.info(name))) {
      hash.update(weights.readRaw(name, rows));
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  }
  return hash.digest("hex");
}

/**
 * What is hashed of a config: whatever Llama's block has as well is left out or under its oldest name, so
 * that a base keeps its digest, and its cores, when configs learn to say more.
 */
function digestedConfig(config: DecoderConfig): Readonly<Record<string, unknown>> {
  const { ropes: _, layers: __, qkNorm, attentionScale, ...rest } = config;
  const own = Object.entries(rest).filter(([name, value]) =>
    !Object.hasOwn(PLAIN_FORM, name) ||
    canonicalJson(value) !== canonicalJson(PLAIN_FORM[name as keyof typeof PLAIN_FORM])
  );
  return {
    ...Object.fromEntries(own),
    qkNorm: qkNorm === "whole" ? qkNorm : qkNorm === "heads",
    ...(attentionScale === plainScale(config.headDim) ? {} : { attentionScale }),
    ...positionsOf(config),
  };
}

function positionsOf({ ropes, layers, headDim }: DecoderConfig): Readonly<Record<string, unknown>> {
  const [{ theta, scaling, turned, interleaved }] = ropes;
  if (ropes.length > 1 || layers.length > 1 || turned !== headDim || interleaved) {
    return { ropes, layers };
  }
  return { ropeTheta: theta, ropeScaling: scaling, slidingWindow: layers[0].window };
}

/** Bytes that are read together, of a tensor in float32. */
const PIECE = 2 ** 26;

/** Types of which rows have no bytes of their own. */
const PACKED: ReadonlySet<WeightInfo["type"]> = new Set(["AWQ", "GPTQ", "F8_E4M3"]);

/** Rows to read together; undefined for all of them, as in checkpoints whose tensors are packed. */
function piecesOf({ shape, type }: WeightInfo): readonly (Rows | undefined)[] {
  const [rows = 1, width = 1] = shape;
  const most = Math.max(1, Math.floor(PIECE / 4 / width));
  if (PACKED.has(type) || rows <= most) return [undefined];
  return Array.from({ length: Math.ceil(rows / most) }, (_, i) => {
    const first = i * most;
    return { first, count: Math.min(most, rows - first) };
  });
}

/**
 * The digest from the cache, or computed and remembered there. A cache that cannot be written costs
 * time, no more.
 *
 * @param cache the cache directory; undefined for none
 * @param paths the files that the config and the weights came from
 */
export async function cachedDigest(
  cache: string | undefined,
  paths: readonly string[],
  compute: () => Promise<string>,
): Promise<string> {
  if (cache === undefined) return await compute();
  const entry = `${cache}/digests/${await keyOf(paths)}`;
  const known = await readEntry(entry);
  if (known !== undefined) return known;
  const digest = await compute();
  await rememberEntry(entry, digest);
  return digest;
}

/** JSON with sorted keys and without undefined fields: equal configs give equal text. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, field: unknown) => {
    if (typeof field !== "object" || field === null || Array.isArray(field)) return field;
    return Object.fromEntries(Object.entries(field).sort(([a], [b]) => a < b ? -1 : 1));
  });
}

async function keyOf(paths: readonly string[]): Promise<string> {
  const parts = [SCHEME];
  for (const path of paths) {
    const { size, mtime } = await Deno.stat(path);
    parts.push(await Deno.realPath(path), String(size), String(mtime?.getTime()));
  }
  return createHash("sha256").update(parts.join("\0")).digest("hex");
}

async function readEntry(path: string): Promise<string | undefined> {
  try {
    const text = await Deno.readTextFile(path);
    return /^[0-9a-f]{64}$/.test(text) ? text : undefined;
  } catch {
    return undefined;
  }
}

async function rememberEntry(path: string, digest: string): Promise<void> {
  try {
    await writeAtomically(path, digest);
  } catch {
    // A read-only or full disk: the digest is computed again next time.
  }
}
