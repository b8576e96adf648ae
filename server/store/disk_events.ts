/**
 * A job's events in a file of lines: appended and synced, read newest or oldest first. A line that a
 * crash has torn is cut off and named; the others count. It knows no job.
 */
import type { Log } from "../log.ts";
import { ifThere } from "./data_directory.ts";
import { linesBackward } from "./lines_backward.ts";
import type { JobEvent, Page, PageQuery } from "./store.ts";

export class EventFile {
  readonly #path: string;
  readonly #log: Log;
  /** Appends go one after the other; the first of this process mends the end of the file. */
  #last: Promise<void> | undefined;

  constructor(path: string, log: Log) {
    this.#path = path;
    this.#log = log;
  }

  append(events: readonly JobEvent[]): Promise<void> {
    const before = this.#last ?? this.#mend();
    const done = before.then(() => this.#write(events));
    this.#last = done.catch(() => {});
    return done;
  }

  /** @throws {RangeError} where `after` names no event. */
  async page({ after, limit, order }: PageQuery): Promise<Page<JobEvent>> {
    await this.#last;
    const lines: string[] = [];
    let begun = after === undefined;
    // the newest are asked for all the time: they are read without the rest of the file
    for await (const line of order === "desc" ? linesBackward(this.#path) : this.#forward()) {
      if (!begun) begun = isOf(line, after ?? "");
      else if (lines.push(line) > limit) break;
    }
    if (!begun) {
      throw new RangeError(
        `Cannot list what comes after '${after?.slice(0, 80)}': it is not listed`,
      );
    }
    return {
      items: lines.slice(0, limit).flatMap((line) => this.#parse(line)),
      hasMore: lines.length > limit,
    };
  }

  async *#forward(): AsyncGenerator<string> {
    const text = await ifThere(Deno.readTextFile(this.#path)) ?? "";
    yield* text.split("\n").filter((line) => line !== "");
  }

  #parse(line: string): JobEvent[] {
    try {
      return [JSON.parse(line)];
    } catch {
      this.#log.warning(`${this.#path}: passed over a damaged line`, { length: line.length });
      return [];
    }
  }

  async #write(events: readonly JobEvent[]): Promise<void> {
    const lines = events.map((event) => JSON.stringify(event) + "\n").join("");
    const bytes = new TextEncoder().encode(lines);
    using file = await Deno.open(this.#path, { append: true, create: true });
    for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
    await file.sync();
  }

  async #mend(): Promise<void> {
    const bytes = await ifThere(Deno.readFile(this.#path));
    if (bytes === undefined) return;
    const end = bytes.lastIndexOf("\n".charCodeAt(0)) + 1;
    if (end === bytes.length) return;
    this.#log.warning(`${this.#path}: cut off a torn line`, { length: bytes.length - end });
    await Deno.truncate(this.#path, end);
  }
}

/** The id is a line's first field. */
function isOf(line: string, id: string): boolean {
  return line.startsWith(`{"id":${JSON.stringify(id)},`);
}
