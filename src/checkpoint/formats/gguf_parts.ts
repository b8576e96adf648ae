/**
 * A GGUF model in one file or in several, as `gguf-split` names them: `NAME-00001-of-00003.gguf`. The
 * first part has the metadata; each has tensors of its own.
 */
import { RandomAccessFile } from "./file.ts";
import { type GgufHeader, type GgufTensor, readGgufHeader, type SeenPair } from "./gguf.ts";

const NUMBERED = /-(\d{5})-of-(\d{5})\.gguf$/i;

/** A tensor and the file that it lies in. */
export interface PlacedTensor extends GgufTensor {
  readonly file: RandomAccessFile;
}

/** The open files of one model. */
export interface GgufParts {
  readonly paths: readonly string[];
  /** The first file's, with the tensors of all. */
  readonly header: Omit<GgufHeader, "tensors"> & {
    readonly tensors: ReadonlyMap<string, PlacedTensor>;
  };
  close(): void;
}

/** All parts of the model that a file is a part of, the first one first. */
export function partPaths(path: string): readonly string[] {
  const count = Number(NUMBERED.exec(path)?.[2] ?? 1);
  return count === 1 ? [path] : Array.from({ length: count }, (_, i) => partPath(path, i + 1));
}

function partPath(path: string, number: number): string {
  return path.replace(NUMBERED, (_, __, count) => {
    return `-${String(number).padStart(5, "0")}-of-${count}.gguf`;
  });
}

/**
 * Opens and checks all parts.
 *
 * @param seen hears of each metadata pair of the first part as soon as it is read
 * @throws {TypeError} where a part is damaged, missing or of another model
 */
export function openGgufParts(path: string, seen: SeenPair): GgufParts {
  const paths = partPaths(path);
  const files: RandomAccessFile[] = [];
  const close = () => files.forEach((file) => file.close());
  try {
    const headers = paths.map((part, i) => {
      const file = openPart(part, path);
      files.push(file);
      return readGgufHeader(file, i === 0 ? seen : () => {});
    });
    const [first] = headers;
    const count = first.metadata.get("split.count") ?? 1;
    if (count !== paths.length) {
      throw new TypeError(
        `Cannot open ${path}: it is one of ${count} parts, which are named …-00001-of-${
          String(count).padStart(5, "0")
        }.gguf and so on`,
      );
    }
    const tensors = placed(headers, files);
    checkCount(path, first, tensors.size);
    return { paths, header: { ...first, tensors }, close };
  } catch (error) {
    close();
    throw error;
  }
}

function openPart(part: string, path: string): RandomAccessFile {
  try {
    return RandomAccessFile.open(part);
  } catch (error) {
    if (part === path || !(error instanceof Deno.errors.NotFound)) throw error;
    throw new TypeError(`Cannot open ${path}: its part ${part} is not there`);
  }
}

function placed(
  headers: readonly GgufHeader[],
  files: readonly RandomAccessFile[],
): ReadonlyMap<string, PlacedTensor> {
  const tensors = new Map<string, PlacedTensor>();
  headers.forEach((header, i) => {
    for (const [name, tensor] of header.tensors) {
      if (tensors.has(name)) {
        throw new TypeError(`Cannot open ${files[i].path}: another part has '${name}' as well`);
      }
      tensors.set(name, { ...tensor, file: files[i] });
    }
  });
  return tensors;
}

function checkCount(path: string, { metadata }: GgufHeader, count: number): void {
  const wanted = metadata.get("split.tensors.count") ?? count;
  if (wanted === count) return;
  throw new TypeError(`Cannot open ${path}: its parts have ${count} tensors, not ${wanted}`);
}
