/**
 * One part of a base's prepared weights: `NUMBER.bin` as ONNX Runtime writes them, each the weights
 * of one node with the form that its kernel packs; `plain.bin` with weights that no kernel packs;
 * `part.json`, which says where each is; `stamps.json`, what the files' entries on disk looked like
 * when their digests were last checked.
 *
 * Trap: ONNX Runtime packs a weight again at each load, and takes the packed form from the file
 * where its hash is the same; a file that was written over would be served without a word. So no
 * part is used whose files are not as they were left.
 */
import { createHash } from "node:crypto";
import { statfs } from "node:fs/promises";
import { syncDirectory, writeAtomically } from "../checkpoint/fetch/cache.ts";
import type { Progress } from "../checkpoint/fetch/progress.ts";
import type { Lowered } from "../graph/lowering/lowering.ts";
import { type PackingNode, type Place, placesOf, type Weight } from "../graph/lowering/onnx.ts";
import type { Device, Tensor } from "../runtime/device.ts";
import { formatBytes } from "../util/bytes.ts";
import { textDigest } from "../util/ids.ts";
import { type MadeSums, replaceSumsIn } from "./block_sums.ts";

/** Changes whenever other bytes are made of the same parameters, or kept in another way. */
const FORMAT = "lembas.weights/1";
const PLAIN = "plain.bin";
/** Bytes: the page of a file's mapping, and of the widest kernels' loads. */
const ALIGNMENT = 4096;
const CHUNK = 4 * 2 ** 20;
/** A file holds its weights as they are and as they are packed, which is up to half larger. */
const DISK_FACTOR = 2.5;

const SECOND = 1000;
/** A part of this size is stamped a second later, so that the next start need not check it all. */
const PATIENT_BYTES = 2 ** 25;

/** A part as `part.json` has it. */
export interface Part {
  readonly format: string;
  readonly weights: Readonly<Record<string, Place>>;
  /** Digests of its files. */
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>;
}

export interface PartOptions {
  readonly device: Device;
  readonly folder: string;
  readonly progress?: Progress | undefined;
}

/**
 * Makes the weights of `names`, a node's at a time, and writes them down.
 * @throws {Error} where the disk has no room, before anything is written
 */
export async function writePart(
  graphs: readonly Lowered[],
  names: ReadonlySet<string>,
  options: PartOptions,
): Promise<void> {
  const { folder } = options;
  await Deno.mkdir(folder, { recursive: true });
  const weights = new Map(
    graphs.flatMap(({ weights }) => [...weights]).filter(([name]) => names.has(name)),
  );
  const total = [...weights.values()].reduce((sum, weight) => sum + bytesOf(weight), 0);
  await checkRoom(folder, total * DISK_FACTOR);
  const writer = new PartWriter(weights, total, options);
  try {
    for (const node of packedOnce(graphs, names)) await writer.pack(node);
    await writer.plain();
  } finally {
    await writer.settle();
  }
  await writer.finish();
}

/** Nodes whose weights only they pack: a weight has one packed form on disk. */
function packedOnce(graphs: readonly Lowered[], names: ReadonlySet<string>): PackingNode[] {
  const nodes = graphs.flatMap((graph) => graph.packing());
  const users = new Map<string, Set<string>>();
  for (const { operator, weights } of nodes) {
    for (const name of weights) users.set(name, (users.get(name) ?? new Set()).add(operator));
  }
  const seen = new Set<string>();
  return nodes.filter(({ weights }) =>
    weights.every((name) =>
      names.has(name) && users.get(name)?.size === 1 && !seen.has(name) && seen.add(name)
    )
  );
}

class PartWriter {
  readonly #weights: ReadonlyMap<string, Weight>;
  readonly #total: number;
  readonly #options: PartOptions;
  readonly #places = new Map<string, Place>();
  readonly #files = new Set<string>();
  #writing = Promise.resolve();
  #done = 0;

  constructor(weights: ReadonlyMap<string, Weight>, total: number, options: PartOptions) {
    this.#weights = weights;
    this.#total = total;
    this.#options = options;
  }

  /** Makes a node's weights while those of the node before are written; resolves when these are. */
  async pack(node: PackingNode): Promise<void> {
    const { device } = this.#options;
    using tensors = new DisposableStack();
    // side by side: what is made together is made once
    const [made, packed] = await Promise.all([
      Promise.all(node.weights.map(async (weight) => {
        const { dtype, shape, make } = this.#weight(weight);
        return [weight, device.tensor(dtype, shape, await make())] as const;
      })),
      node.sums?.make(),
    ]);
    for (const [, tensor] of made) tensors.use(tensor);
    const sums = node.sums && packed && { ...node.sums, ...packed };
    await this.#writing;
    const own = tensors.move();
    this.#writing = this.#write(node, Object.fromEntries(made), sums)
      .finally(() => own.dispose());
    // whoever waits for it hears of a failure, maybe turns of the event loop later
    this.#writing.catch(() => {});
  }

  /** Has ONNX Runtime write a node's weights and what its kernel packs of them. */
  async #write(
    { weights, model }: PackingNode,
    initializers: Readonly<Record<string, Tensor>>,
    sums: MadeSums | undefined,
  ): Promise<void> {
    const { device, folder } = this.#options;
    const name = String(this.#files.size);
    (await device.session(model, { initializers, save: { folder, name } })).release();
    const places = placesOf(await Deno.readFile(`${folder}/${name}.onnx`));
    await Deno.remove(`${folder}/${name}.onnx`);
    if (sums !== undefined) {
      await replaceSumsIn(`${folder}/${name}.bin`, places.get(weights[0]), sums);
    }
    for (const weight of weights) {
      const place = places.get(weight);
      if (place !== undefined) this.#place(weight, place);
    }
    if (places.size > 0) this.#files.add(`${name}.bin`);
  }

  /** Writes the weights that have no place yet as they are. */
  async plain(): Promise<void> {
    await this.#writing;
    const names = [...this.#weights.keys()].filter((name) => !this.#places.has(name));
    if (names.length === 0) return;
    using file = await Deno.open(`${this.#options.folder}/${PLAIN}`, { write: true, create: true });
    let end = 0;
    for (const name of names) {
      const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
      const data = await this.#weight(name).make();
      const bytes = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
      await file.seek(offset, Deno.SeekMode.Start);
      for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at, at + CHUNK));
      end = offset + bytes.length;
      this.#place(name, { location: PLAIN, offset: `${offset}`, length: `${bytes.length}` });
    }
    this.#files.add(PLAIN);
  }

  /** Resolves when nothing is being written any more, well or not. */
  async settle(): Promise<void> {
    await this.#writing.catch(() => {});
  }

  async finish(): Promise<void> {
    const { folder } = this.#options;
    const files: Record<string, { bytes: number; sha256: string }> = {};
    for (const name of this.#files) files[name] = await sealed(`${folder}/${name}`);
    const weights = Object.fromEntries(this.#places);
    await writeAtomically(`${folder}/part.json`, signed({ format: FORMAT, weights, files }));
    if (this.#total > PATIENT_BYTES) await new Promise((resolve) => setTimeout(resolve, SECOND));
    await writeStamps(folder, Object.keys(files));
    await syncDirectory(folder);
  }

  #weight(name: string): Weight {
    const weight = this.#weights.get(name);
    if (weight === undefined) throw new Error(`internal: no weight ${name} to prepare`);
    return weight;
  }

  #place(name: string, place: Place): void {
    this.#places.set(name, place);
    this.#done += bytesOf(this.#weight(name));
    this.#options.progress?.("preparing weights", this.#done, this.#total);
  }
}

/** The part in a folder, or why it is none. */
export async function openPart(folder: string): Promise<Part | Error> {
  try {
    const text = await Deno.readTextFile(`${folder}/part.json`);
    const { digest: _, ...part } = JSON.parse(text) as Part & { readonly digest?: string };
    if (part.format !== FORMAT) return new Error(`it is no ${FORMAT}`);
    if (signed(part) !== text) return new Error("part.json is not what was written");
    if (await isAsStamped(folder, Object.keys(part.files))) return part;
    for (const [name, { bytes, sha256 }] of Object.entries(part.files)) {
      const found = await digestOf(`${folder}/${name}`);
      if (found.bytes === bytes && found.sha256 === sha256) continue;
      return new Error(`${name} is not what was written (${found.bytes} bytes)`);
    }
    await writeStamps(folder, Object.keys(part.files));
    return part;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** A part as text that holds its own digest. */
function signed(part: Part): string {
  return JSON.stringify({ ...part, digest: textDigest(JSON.stringify(part)) });
}

/** What the system says of files: what no writer leaves as it was. */
interface Stamps {
  /** Name, size, inode, and milliseconds of the last write and of the last change of any kind. */
  readonly files: readonly (readonly [string, number, number | null, number, number])[];
  /** When this was, in milliseconds. */
  readonly at: number;
}

/**
 * Whether nothing has touched the files since their digests were right. The time of the last change
 * comes in whole seconds, so stamps of the same second prove nothing.
 */
async function isAsStamped(folder: string, files: readonly string[]): Promise<boolean> {
  const before = await readStamps(folder);
  const now = await stampsOf(folder, files);
  return before !== undefined && JSON.stringify(before.files) === JSON.stringify(now.files) &&
    before.files.every(([, , , , changed]) => before.at >= changed + SECOND);
}

async function readStamps(folder: string): Promise<Stamps | undefined> {
  try {
    return JSON.parse(await Deno.readTextFile(`${folder}/stamps.json`));
  } catch {
    return undefined;
  }
}

async function writeStamps(folder: string, files: readonly string[]): Promise<void> {
  const stamps = await stampsOf(folder, files);
  await writeAtomically(`${folder}/stamps.json`, JSON.stringify(stamps));
}

async function stampsOf(folder: string, files: readonly string[]): Promise<Stamps> {
  const stamps = await Promise.all(["part.json", ...files].map(async (name) => {
    const { size, mtime, ctime, ino } = await Deno.stat(`${folder}/${name}`);
    return [name, size, ino, Number(mtime), Number(ctime)] as const;
  }));
  return { files: stamps, at: Date.now() };
}

/** Makes a file durable; its size and digest. */
async function sealed(path: string): Promise<{ bytes: number; sha256: string }> {
  using file = await Deno.open(path, { read: true, write: true });
  await file.syncData();
  return await digestOf(path);
}

async function digestOf(path: string): Promise<{ bytes: number; sha256: string }> {
  using file = await Deno.open(path, { read: true });
  const hash = createHash("sha256");
  const buffer = new Uint8Array(CHUNK);
  let bytes = 0;
  for (let n = await file.read(buffer); n !== null; n = await file.read(buffer)) {
    hash.update(buffer.subarray(0, n));
    bytes += n;
  }
  return { bytes, sha256: hash.digest("hex") };
}

async function checkRoom(folder: string, wanted: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = Number(bavail) * Number(bsize);
  if (free >= wanted) return;
  throw new Error(
    `Cannot prepare weights in ${folder}: they take up to ${formatBytes(wanted)}, ` +
      `${
        formatBytes(free)
      } are free; free some, or set LEMBAS_HOME to a directory on a larger disk`,
  );
}

const ELEMENT_BYTES: Readonly<Record<Weight["dtype"], number>> = {
  float32: 4,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  int8: 1,
  uint8: 1,
  bool: 1,
};

function bytesOf({ dtype, shape }: Weight): number {
  return shape.reduce((product, size) => product * size, ELEMENT_BYTES[dtype]);
}
