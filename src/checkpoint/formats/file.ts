/** A file read at chosen offsets, never beyond its end. It owns the descriptor. */

/** Random access to the bytes of one file. Close it, or hold it with `using`. */
export class RandomAccessFile implements Disposable {
  readonly path: string;
  /** Bytes, as they were when the file was opened. */
  readonly size: number;
  #file: Deno.FsFile | undefined;

  private constructor(path: string, file: Deno.FsFile, size: number) {
    this.path = path;
    this.#file = file;
    this.size = size;
  }

  /** @throws {Deno.errors.NotFound} and the system's other errors */
  static open(path: string): RandomAccessFile {
    const file = Deno.openSync(path, { read: true });
    try {
      return new RandomAccessFile(path, file, file.statSync().size);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /**
   * The `length` bytes from `offset` on, in a new buffer.
   *
   * @throws {RangeError} where they reach beyond the end, before anything is allocated
   * @throws {Deno.errors.BadResource} after `close`
   */
  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    if (offset < 0 || length < 0 || offset + length > this.size) {
      throw new RangeError(
        `Cannot read ${length} bytes at ${offset} of ${this.path}: it has ${this.size} bytes`,
      );
    }
    const bytes = new Uint8Array(length);
    const file = this.#open();
    file.seekSync(offset, Deno.SeekMode.Start);
    let filled = 0;
    while (filled < length) {
      const n = file.readSync(bytes.subarray(filled));
      if (n === null) throw new RangeError(`Cannot read ${this.path}: it became shorter`);
      filled += n;
    }
    return bytes;
  }

  close(): void {
    this.#file?.close();
    this.#file = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #open(): Deno.FsFile {
    if (this.#file === undefined) {
      throw new Deno.errors.BadResource(`Cannot read ${this.path}: it is closed`);
    }
    return this.#file;
  }
}
