/**
 * `parseArgs` under the name, options and semantics of the published `@std/cli/parse-args`, for
 * machines that cannot reach JSR. It owns how a command line becomes a record; it knows no flag.
 * Dotted keys, `stopEarly` and `boolean: true` are left out, as lembas uses none of them.
 */

type OneOrMore<T extends string> = T | readonly T[];

/** Options of {@linkcode parseArgs}; every name is written without its hyphens. */
export interface ParseOptions<
  Booleans extends string = string,
  Strings extends string = string,
  Collected extends string = string,
  Defaults extends Record<string, unknown> = Record<string, unknown>,
> {
  /** Puts what follows `--` under `"--"` instead of into `_`. */
  "--"?: boolean;
  /** Other names of a flag. */
  alias?: Readonly<Record<string, OneOrMore<string>>>;
  /** Flags without a value; false where they are not given. */
  boolean?: OneOrMore<Booleans>;
  /** Values for flags that are not given. */
  default?: Defaults;
  /** Flags whose value stays a string, even where it looks like a number. */
  string?: OneOrMore<Strings>;
  /** Flags that may be repeated: an array, empty where they are not given. */
  collect?: OneOrMore<Collected>;
  /** Flags that `--no-NAME` sets to false. */
  negatable?: OneOrMore<string>;
  /** Called with each argument no option declares; false drops it. */
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

type WithDefaults<T, D> =
  & Omit<T, keyof D>
  & { [K in keyof D]: K extends keyof T ? NonNullable<T[K]> | D[K] : unknown };

/** What {@linkcode parseArgs} returns: the flags, and in `_` what was not one. */
export type Args<
  Booleans extends string = never,
  Strings extends string = never,
  Collected extends string = never,
  Defaults = unknown,
> =
  & WithDefaults<
    & { [K in Exclude<Strings, Collected>]?: string }
    & { [K in Strings & Collected]: string[] }
    & { [K in Exclude<Booleans, Collected>]: boolean }
    & { [K in Exclude<Collected, Strings>]: unknown[] },
    Defaults
  >
  & { [name: string]: unknown; _: (string | number)[]; "--"?: string[] };

function list<T extends string>(value: OneOrMore<T> | undefined): readonly T[] {
  if (value === undefined) return [];
  return typeof value === "string" ? [value] : value;
}

function numeric(value: string): string | number {
  return /\S/.test(value) && Number.isFinite(Number(value)) ? Number(value) : value;
}

class Parser {
  readonly argv: Record<string, unknown> & { _: (string | number)[] } = { _: [] };
  readonly #synonyms = new Map<string, readonly string[]>();
  readonly #boolean: ReadonlySet<string>;
  readonly #string: ReadonlySet<string>;
  readonly #collect: ReadonlySet<string>;
  readonly #negatable: ReadonlySet<string>;

  constructor(readonly options: ParseOptions) {
    for (const [name, others] of Object.entries(options.alias ?? {})) {
      const all = [name, ...list(others)];
      for (const one of all) this.#synonyms.set(one, all);
    }
    this.#boolean = this.#named(options.boolean);
    this.#string = this.#named(options.string);
    this.#collect = this.#named(options.collect);
    this.#negatable = this.#named(options.negatable);
  }

  #named(names: OneOrMore<string> | undefined): ReadonlySet<string> {
    return new Set(list(names).flatMap((name) => this.#all(name)));
  }

  #all(name: string): readonly string[] {
    return this.#synonyms.get(name) ?? [name];
  }

  #declared(key: string): boolean {
    return this.#boolean.has(key) || this.#string.has(key) || this.#collect.has(key) ||
      this.#synonyms.has(key);
  }

  #set(key: string, given: string | boolean, arg: string): void {
    if (!this.#declared(key) && this.options.unknown?.(arg, key, given) === false) return;
    const value = typeof given === "string" && !this.#string.has(key) ? numeric(given) : given;
    for (const name of this.#all(key)) {
      const before = this.argv[name];
      this.argv[name] = !this.#collect.has(name)
        ? value
        : Array.isArray(before)
        ? [...before, value]
        : [value];
    }
  }

  /** Sets a flag that came without `=`; returns how many of the arguments after it were its value. */
  #setFrom(key: string, next: string | undefined, arg: string): number {
    if (next !== undefined && !this.#boolean.has(key) && !next.startsWith("-")) {
      this.#set(key, next, arg);
      return 1;
    }
    if (next === "true" || next === "false") {
      this.#set(key, next === "true", arg);
      return 1;
    }
    this.#set(key, this.#string.has(key) ? "" : true, arg);
    return 0;
  }

  /** `--name`, `--name=value`, `--name value`, `--no-name`. */
  long(arg: string, next: string | undefined): number {
    const [, key = "", value] = /^--([^=]+)(?:=(.*))?$/s.exec(arg) ?? [];
    if (value !== undefined) {
      this.#set(key, this.#boolean.has(key) ? value !== "false" : value, arg);
      return 0;
    }
    const positive = key.replace(/^no-/, "");
    if (positive !== key && this.#negatable.has(positive)) {
      for (const name of this.#all(positive)) this.argv[name] = false;
      return 0;
    }
    return this.#setFrom(key, next, arg);
  }

  /** `-n 1`, `-n1`, `-n=1`, `-abc`. */
  short(arg: string, next: string | undefined): number {
    const letters = arg.slice(1);
    for (let i = 0; i < letters.length - 1; i++) {
      const letter = letters.charAt(i);
      const rest = letters.slice(i + 1);
      if (rest.startsWith("=") || /^-?\d+(\.\d*)?$/.test(rest)) {
        this.#set(letter, rest.replace(/^=/, ""), arg);
        return 0;
      }
      this.#set(letter, this.#string.has(letter) ? "" : true, arg);
    }
    return this.#setFrom(letters.slice(-1), next, arg);
  }

  positional(arg: string): void {
    if (this.options.unknown?.(arg) === false) return;
    this.argv._.push(this.#string.has("_") ? arg : numeric(arg));
  }

  fillIn(): void {
    for (const [key, value] of Object.entries(this.options.default ?? {})) {
      if (this.argv[key] !== undefined) continue;
      for (const name of this.#all(key)) this.argv[name] = value;
    }
    for (const name of this.#boolean) this.argv[name] ??= this.#collect.has(name) ? [] : false;
    for (const name of this.#string) if (this.#collect.has(name)) this.argv[name] ??= [];
  }
}

/**
 * Turns a command line into a record. A value that looks like a number becomes one, unless its flag
 * is named in `string`; a flag without a value is true, or "" where it is named in `string`.
 *
 * @example
 * ```ts
 * import { parseArgs } from "@std/cli/parse-args";
 * import { assertEquals } from "@std/assert";
 *
 * const args = parseArgs(["--port", "8000", "--verbose", "run"], {
 *   string: ["port"],
 *   boolean: ["verbose"],
 * });
 * assertEquals(args, { port: "8000", verbose: true, _: ["run"] });
 * ```
 */
export function parseArgs<
  Booleans extends string = never,
  Strings extends string = never,
  Collected extends string = never,
  Defaults extends Record<string, unknown> = Record<never, never>,
>(
  args: readonly string[],
  options: ParseOptions<Booleans, Strings, Collected, Defaults> = {},
): Args<Booleans, Strings, Collected, Defaults> {
  const parser = new Parser(options);
  const end = args.indexOf("--");
  const flags = end === -1 ? args : args.slice(0, end);
  for (let i = 0; i < flags.length; i++) {
    const arg = flags[i] ?? "";
    const next = flags[i + 1];
    if (/^--[^=]/.test(arg)) i += parser.long(arg, next);
    else if (/^-[^-]/.test(arg)) i += parser.short(arg, next);
    else parser.positional(arg);
  }
  parser.fillIn();
  const rest = end === -1 ? [] : args.slice(end + 1);
  if (options["--"]) parser.argv["--"] = rest;
  else parser.argv._.push(...rest);
  return parser.argv as Args<Booleans, Strings, Collected, Defaults>;
}
