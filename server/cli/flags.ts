/**
 * A command line as a table: each flag with its type, default, environment variable and help. Each
 * command has its table beside it: two in `serve/`, and `flags.ts` in `train/`, `admin/` and
 * `factors/`. The trap: a value that begins with a hyphen needs `=`, as in `--clip=-1`.
 */
import { parseArgs } from "@std/cli/parse-args";
import { parseBytes } from "../../src/util/bytes.ts";

/** A command line that cannot be followed; the text is one line for stderr. */
export class FlagError extends Error {
  override readonly name = "FlagError";
}

/**
 * Opens or reads what a flag names: what fails is told by the flag.
 * @throws {TypeError} `Cannot use --flag value: …`
 */
export async function naming<T>(flag: string, value: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const reason = cause instanceof Deno.errors.NotFound && !cause.message.includes(flag)
      ? `there is no '${value}'`
      : cause instanceof Error
      ? cause.message
      : String(cause);
    if (reason.includes(flag)) throw cause;
    throw new TypeError(`Cannot use ${flag} ${value}: ${reason}`, { cause });
  }
}

/** What a flag's text may be. */
export interface FlagType<T> {
  /** Undefined where the text is no such value. */
  readonly read: (text: string) => T | undefined;
  /** What would be right. */
  readonly right: string;
  /** The text as a refusal may show it, without what is secret in it; default: as it is. */
  readonly shown?: (text: string) => string;
}

/** A flag with a value. */
export interface Flag<T = unknown> {
  readonly type: FlagType<T>;
  /** The value where nothing is said. */
  readonly fallback?: string;
  /** The value of the flag alone. */
  readonly alone?: string;
  /**
   * May be repeated. "commas": each may also hold several with commas, as its variable always may.
   */
  readonly list?: "repeated" | "commas";
}

/** A flag without a value. */
export interface Switch {
  readonly type?: never;
  readonly help?: string;
}

/** What the help says of a flag; `value` stands for its value. */
interface Told {
  readonly help: string;
}
export type ToldFlag<T = unknown> = Flag<T> & Told & { readonly value: string };
export type ToldTable = Readonly<Record<string, ToldFlag | Switch & Told>>;

/** Flags by their names, without hyphens in front. */
export type FlagTable = Readonly<Record<string, Flag | Switch>>;

type ValueOf<F> = F extends Flag<infer T> ? F extends { readonly list: string } ? readonly T[]
  : F extends { readonly fallback: string } ? T
  : T | undefined
  : boolean;
type Camel<S extends string> = S extends `${infer A}-${infer B}` ? `${A}${Capitalize<Camel<B>>}`
  : S;

/** What a table's flags say: `--max-batch` as `maxBatch`. */
export type FlagValues<T extends FlagTable> = {
  readonly [N in keyof T & string as Camel<N>]: ValueOf<T[N]>;
};

/** What is wrong with a command line. */
export type Fault =
  | { readonly type: "word"; readonly word: string }
  | { readonly type: "unknown"; readonly flag: string; readonly meant: string | undefined }
  | { readonly type: "empty"; readonly flag: string }
  | {
    readonly type: "value";
    readonly flag: string;
    readonly text: string;
    readonly right: string;
  };

/** A command: its flags, and how it speaks. */
export interface CommandLine<T extends FlagTable> {
  /** As in `deno task serve`. */
  readonly command: string;
  readonly flags: T;
  /** Questions that it answers instead of running; `-h` is `--help`. */
  readonly asks: readonly ("help" | "version")[];
  /** Whether it takes words that are no flags. */
  readonly words?: "taken";
  /** The environment variable of a flag; undefined = none. */
  readonly variable?: (flag: string) => string | undefined;
  /** Its words for a fault; default: those of `refusal`. */
  readonly refuse?: (fault: Fault) => Error;
}

/** What a command line asks for. */
export type Asked<T extends FlagTable> =
  | { readonly type: "help" }
  | { readonly type: "version" }
  | { readonly type: "run"; readonly values: FlagValues<T>; readonly words: readonly string[] };

export type Environment = (name: string) => string | undefined;

/**
 * Reads a command line; a flag wins over its environment variable, `--help` over all.
 * @throws {FlagError} or what `refuse` makes of a fault
 */
export function readCommandLine<T extends FlagTable>(
  line: CommandLine<T>,
  args: readonly string[],
  env: Environment,
): Asked<T> {
  const { flags, command, asks, words, refuse = (fault: Fault) => refusal(fault, command) } = line;
  const names = Object.keys(flags);
  const given = words === "taken" ? args : spread(args, flags);
  const parsed = parseArgs([...given], {
    string: [...names.filter((name) => flagOf(flags, name).type !== undefined), "_"],
    boolean: [...names.filter((name) => flagOf(flags, name).type === undefined), ...asks],
    alias: { help: "h" },
    collect: names.filter((name) => "list" in flagOf(flags, name)),
    unknown: (arg, key) => {
      if (key !== undefined) {
        const meant = nearest(key, [...names, ...asks]);
        throw refuse({ type: "unknown", flag: arg.split("=")[0] ?? arg, meant });
      }
      if (words !== "taken") throw refuse({ type: "word", word: arg });
    },
  });
  if (parsed["help"]) return { type: "help" };
  if (parsed["version"]) return { type: "version" };
  const values = names.map((name) => {
    const flag = flagOf(flags, name);
    const variable = line.variable?.(name);
    const said = (variable === undefined ? undefined : env(variable)) || undefined;
    const value = flag.type !== undefined
      ? valueOf(name, flag, parsed[name], said, refuse)
      : parsed[name];
    return [camel(name), value];
  });
  const record = Object.fromEntries(values) as FlagValues<T>;
  return { type: "run", values: record, words: parsed._.map(String) };
}

/** `--list a b` as `--list a --list b`, as Python's commands take it. */
function spread(args: readonly string[], flags: FlagTable): string[] {
  let list: string | undefined;
  return args.flatMap((arg, index) => {
    const [, name] = /^--([\w-]+)$/.exec(arg) ?? [];
    const isValue = !arg.startsWith("-");
    const more = isValue && args[index - 1] !== list ? list : undefined;
    if (!isValue) list = name !== undefined && "list" in (flags[name] ?? {}) ? arg : undefined;
    return more === undefined ? [arg] : [more, arg];
  });
}

function flagOf(flags: FlagTable, name: string): Flag | Switch {
  const flag = flags[name];
  if (flag === undefined) throw new Error(`internal: there is no flag --${name}`);
  return flag;
}

function valueOf(
  name: string,
  { type, list, fallback, alone }: Flag,
  given: unknown,
  variable: string | undefined,
  refuse: (fault: Fault) => Error,
): unknown {
  const read = (text: string): unknown => {
    const value = type.read(text);
    if (value !== undefined) return value;
    const { right, shown = (text: string) => text } = type;
    throw refuse({ type: "value", flag: name, text: shown(text), right });
  };
  if (list !== undefined) {
    const texts = given as readonly string[];
    if (texts.includes("")) throw refuse({ type: "empty", flag: name });
    const parts = list === "commas" ? texts.flatMap(commaSeparated) : texts;
    return (texts.length > 0 ? parts : commaSeparated(variable ?? "")).map(read);
  }
  if (given === "" && alone === undefined) throw refuse({ type: "empty", flag: name });
  const text = given === "" ? alone : given as string | undefined;
  const said = text ?? variable ?? fallback;
  return said === undefined ? undefined : read(said);
}

/** `max-batch` → `maxBatch`. */
export function camel(name: string): string {
  return name.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}

/** What stands in braces is one part, whatever commas it has. */
function commaSeparated(text: string): string[] {
  const parts = text.match(/\{[^{}]*\}|[^,]+/g) ?? [];
  return parts.map((part) => part.trim()).filter((part) => part !== "");
}

/** The usual words for a fault; `shown`: a flag as they name it. */
export function refusal(
  fault: Fault,
  command: string,
  shown: (flag: string) => string = (flag) => `--${flag}`,
): FlagError {
  switch (fault.type) {
    case "word":
      return new FlagError(
        `Unexpected argument '${fault.word}': ${command} takes flags only; see --help.`,
      );
    case "unknown":
      return new FlagError(
        `Unknown flag '${fault.flag}'${
          fault.meant === undefined ? "" : `; did you mean '--${fault.meant}'?`
        } See --help.`,
      );
    case "empty":
      return new FlagError(`Cannot use --${fault.flag}: it needs a value.`);
    case "value":
      return new FlagError(
        `Cannot use ${
          shown(fault.flag)
        }: current value is '${fault.text}', it must be ${fault.right}.`,
      );
  }
}

/** The flags' part of `--help`. */
export function flagsHelp(flags: ToldTable): string {
  return Object.entries(flags).map(([name, flag]) => {
    if (flag.type === undefined) return `  --${name}\n      ${flag.help}`;
    const { value, help, fallback } = flag;
    const shown = fallback === undefined ? "" : ` (default: ${fallback})`;
    return `  --${name} ${value}\n      ${help}${shown}`;
  }).join("\n");
}

/** A flag whose text is taken as it is. */
export function textFlag(value: string, help: string): ToldFlag<string> {
  return { value, help, type: anyText };
}

export const anyText: FlagType<string> = { read: (text) => text, right: "a text" };

export function integer(low: number, high: number): FlagType<number> {
  return {
    read: (text) => {
      const value = /^\d+$/.test(text) ? Number(text) : NaN;
      return value >= low && value <= high ? value : undefined;
    },
    right: `an integer from ${low} to ${high}`,
  };
}

export function oneOf<const T extends string>(choices: readonly T[]): FlagType<T> {
  return {
    read: (text) => choices.find((one) => one === text),
    right: choices.join(", "),
  };
}

export const byteCount: FlagType<number> = {
  read: (text) => parseBytes(text) || undefined,
  right: "a number of bytes such as 1048576, 512MiB or 1.5GiB",
};

/** The candidate within two edits (a third of the length for long words), if any. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const limit = Math.max(2, Math.floor(word.length / 3));
  const ranked = candidates
    .map((candidate) => ({ candidate, distance: editDistance(word, candidate) }))
    .sort((a, b) => a.distance - b.distance);
  const [best] = ranked;
  return best !== undefined && best.distance <= limit ? best.candidate : undefined;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
