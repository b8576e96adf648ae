/** The command line of `deno task bench answers`: flags, defaults and help. It owns parsing only. */
import { parseArgs } from "@std/cli/parse-args";
import { whole } from "../values.ts";

export const HELP = `deno task bench answers [flags]

How many of a task's rows adapters answer rightly, through the engine: the greedy answer is the row's
own. Each directory of --adapters is served as a server's is (LoRAs as they are, cores over the factor
sets beside them), and an adapter is asked the rows of the task that it is named after.

  --data DIR        TASK.test.jsonl of conversations, as bench/peers/peft_loras.py writes them
  --adapters LIST   directories, with commas; the base is asked first
  --rows N          most rows of a task (default: all)
  --model SPEC      as the server's (default: the packaged SmolLM2)

Everything but the last line is for people; the last line is JSON.`;

export interface AnswersFlags {
  readonly data: string;
  readonly adapters: readonly string[];
  readonly rows: number;
  readonly model: string | undefined;
}

/**
 * Undefined where help is asked for.
 * @throws {TypeError} for an unknown flag, or a value that cannot be
 */
export function parseAnswersFlags(args: readonly string[]): AnswersFlags | undefined {
  const given = parseArgs([...args], {
    string: ["data", "adapters", "rows", "model"],
    boolean: ["help"],
    alias: { help: "h" },
    unknown: (arg) => {
      throw new TypeError(`Cannot bench: there is no flag ${arg}`);
    },
  });
  if (given.help) return undefined;
  if (!given.data) throw new TypeError("Cannot bench: --data is missing, it must be given");
  return {
    data: given.data,
    adapters: (given.adapters ?? "").split(",").filter((path) => path !== ""),
    rows: whole("rows", given.rows ?? String(Number.MAX_SAFE_INTEGER)),
    model: given.model,
  };
}
