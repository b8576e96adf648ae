/**
 * Training files: JSON lines of OpenAI's chat fine-tuning format or of prompts with completions.
 * Templates, tokens and lengths come later, in `render.ts` and `dataset.ts`.
 */
import type { Tool } from "../../checkpoint/text/tools.ts";
import { joinBytes } from "../../util/bytes.ts";
import { BrokenLine, shown, type WarningList, wholeText } from "./faults.ts";
import { type Answers, readConversation, type TrainMessage } from "./messages.ts";
import { readTools } from "./tools.ts";

export type TrainRecord =
  | {
    readonly type: "chat";
    readonly line: number;
    readonly messages: readonly TrainMessage[];
    /** What the assistant may call. */
    readonly tools: readonly Tool[];
  }
  | {
    readonly type: "completion";
    readonly line: number;
    readonly prompt: string;
    /** Undefined where one is to come. */
    readonly completion: string | undefined;
  };

/** A line that is not blank, undecoded. */
export interface RawLine {
  /** From 1; blank lines count. */
  readonly line: number;
  /** Undefined where it is longer than any line may be. */
  readonly bytes: Uint8Array | undefined;
}

/** A line is in memory as a whole, and no row of so many bytes fits a model. */
const MAX_LINE = 16 * 2 ** 20;

const NEWLINE = 0x0a;
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];
const BLANKS = new Set([0x20, 0x09, 0x0d]);

/** Cuts a file that comes in pieces into lines; a byte order mark and blank lines are passed over. */
export class LineSplitter {
  #line = 1;
  /** Pieces of a line whose end has not come. */
  #begun: Uint8Array[] = [];
  #bytes = 0;

  /** The lines that end in this piece. */
  *push(piece: Uint8Array): Generator<RawLine> {
    let start = 0;
    for (let end; (end = piece.indexOf(NEWLINE, start)) >= 0; start = end + 1) {
      this.#begin(piece.subarray(start, end));
      yield* this.#finish();
    }
    this.#begin(piece.subarray(start));
  }

  /** The last line, where no line break ends it. */
  *end(): Generator<RawLine> {
    yield* this.#finish();
  }

  #begin(part: Uint8Array): void {
    this.#bytes += part.length;
    if (this.#bytes > MAX_LINE) this.#begun = [];
    else if (part.length > 0) this.#begun.push(part);
  }

  *#finish(): Generator<RawLine> {
    const line = this.#line++;
    const bytes = this.#bytes > MAX_LINE ? undefined : withoutMark(joined(this.#begun), line);
    [this.#begun, this.#bytes] = [[], 0];
    if (bytes === undefined || bytes.some((byte) => !BLANKS.has(byte))) yield { line, bytes };
  }
}

function withoutMark(bytes: Uint8Array, line: number): Uint8Array {
  const marked = line === 1 && BYTE_ORDER_MARK.every((byte, i) => bytes[i] === byte);
  return marked ? bytes.subarray(BYTE_ORDER_MARK.length) : bytes;
}

/** Most lines lie in one piece. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  const [only] = parts;
  if (parts.length === 1 && only !== undefined) return only;
  return joinBytes(parts);
}

/** Reads the lines of one file, all of one kind. */
export class RecordReader {
  readonly #warnings: WarningList;
  readonly #answers: Answers;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  #first: Pick<TrainRecord, "type" | "line"> | undefined;

  /** @param warnings hears of what is ignored */
  constructor(warnings: WarningList, answers: Answers) {
    this.#warnings = warnings;
    this.#answers = answers;
  }

  /** @throws {BrokenLine} saying what is wrong. */
  read({ line, bytes }: RawLine): TrainRecord {
    if (bytes === undefined) throw new BrokenLine(`it is longer than ${MAX_LINE >> 20} MiB`);
    const fields = this.#parse(bytes);
    const type = typeOf(fields);
    this.#first ??= { type, line };
    if (this.#first.type !== type) {
      throw new BrokenLine(
        `it is ${KINDS[type]}, but line ${this.#first.line} is ${KINDS[this.#first.type]}: ` +
          "a file should have one kind",
      );
    }
    this.#noteIgnored(line, type, fields);
    if (type === "completion") {
      return {
        type,
        line,
        prompt: textOf("prompt", fields["prompt"]),
        completion: isLeftOut(fields["completion"]) && this.#answers === "optional"
          ? undefined
          : textOf("completion", fields["completion"]),
      };
    }
    const named = (name: string): void =>
      this.#warnings.add(line, `a message's '${name}' is ignored`);
    const tools = readTools(fields["tools"]);
    const messages = readConversation(fields["messages"], named, this.#answers);
    return { type, line, messages, tools };
  }

  #parse(bytes: Uint8Array): Readonly<Record<string, unknown>> {
    const value = parseJson(this.#decode(bytes));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      return value as Readonly<Record<string, unknown>>;
    }
    throw new BrokenLine(`it is ${shown(value)}, it should be a JSON object`);
  }

  #decode(bytes: Uint8Array): string {
    try {
      return this.#decoder.decode(bytes);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      throw new BrokenLine("it is not UTF-8");
    }
  }

  #noteIgnored(
    line: number,
    type: TrainRecord["type"],
    fields: Readonly<Record<string, unknown>>,
  ): void {
    for (const [name, value] of Object.entries(fields)) {
      if (value === null || FIELDS[type].includes(name)) continue;
      this.#warnings.add(line, `'${name}' is ignored`);
    }
  }
}

const FIELDS: Readonly<Record<TrainRecord["type"], readonly string[]>> = {
  chat: ["messages", "tools"],
  completion: ["prompt", "completion"],
};

const KINDS: Readonly<Record<TrainRecord["type"], string>> = {
  chat: "a conversation",
  completion: "a prompt with a completion",
};

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    const hint = text.trim() === "[" || text.trim() === "{"
      ? "; each object should be on one line"
      : "";
    throw new BrokenLine(`it is not JSON: ${error.message}${hint}`);
  }
}

function typeOf(fields: Readonly<Record<string, unknown>>): TrainRecord["type"] {
  const has = (name: string): boolean => Object.hasOwn(fields, name);
  const completion = has("prompt") || has("completion");
  if (has("messages")) {
    if (!completion) return "chat";
    throw new BrokenLine("it has both 'messages' and 'prompt' or 'completion'");
  }
  if (completion) return "completion";
  const names = Object.keys(fields).slice(0, 8).map((name) => shown(name)).join(", ");
  throw new BrokenLine(
    `it has ${names === "" ? "no fields" : `the fields ${names}`}; it should have 'messages', ` +
      "or 'prompt' and 'completion'",
  );
}

function isLeftOut(value: unknown): boolean {
  return value === undefined || value === null;
}

function textOf(name: string, value: unknown): string {
  if (typeof value === "string") return wholeText(name, value);
  throw new BrokenLine(`${name} is ${shown(value)}, it should be a string`);
}
