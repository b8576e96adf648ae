/** The flags of `deno task factors make --from-loras`: LoRAs compressed together. */
import type { Storage } from "../../../adapters/lotr/format.ts";
import { MOST_CLUSTERS } from "../../../adapters/lotr/joint/joint_factors.ts";
import { DEFAULT_RANK } from "../../../adapters/lotr/stack.ts";
import { anyText, type Flag, type FlagType } from "../flags.ts";

export interface CompressFlags {
  /** Undefined = the packaged default. */
  readonly model: string | undefined;
  /** PEFT directories, or directories of them. */
  readonly loras: readonly string[];
  /** At least one, ascending; with several only the table is made. */
  readonly ranks: readonly number[];
  readonly clusters: number | "auto";
  /** Share of energy, 0 to 1, that is enough for "auto". */
  readonly enough: number;
  readonly seed: number;
  readonly storage: Storage;
  /** The directory to write; undefined where nothing is. */
  readonly out: string | undefined;
}

const DEFAULT_CAPTURED = 90;

const clusterCount: FlagType<number | "auto"> = {
  read: (text) => text === "auto" ? text : /^[1-9]\d{0,3}$/.test(text) ? Number(text) : undefined,
  right: "a whole number or auto is wanted",
};

const percent: FlagType<number> = {
  read: (text) => /^\d{1,2}(\.\d+)?$/.test(text) && Number(text) > 0 ? Number(text) : undefined,
  right: "a percentage between 0 and 100 is wanted",
};

export const COMPRESS_FLAGS = {
  captured: { type: percent },
  clusters: { type: clusterCount },
  "from-loras": { type: anyText, list: "repeated" },
} as const satisfies Readonly<Record<string, Flag>>;

export const COMPRESS_HELP = {
  usage: `Compress PEFT LoRAs of one base together, into factor sets and a core for each:
  deno task factors make --from-loras DIR... --out DIR [--model SPEC] [--rank N or LIST]
                    [--clusters N|auto, default 1] [--captured PERCENT, default ${DEFAULT_CAPTURED}]
                    [--seed N, default 0] [--float16]
`,
  text: `
--from-loras takes PEFT directories, or directories of them. --out gets factors.safetensors (with
clusters factors-1.safetensors, …), NAME.safetensors for each LoRA and report.json; what cannot be
held is lost, and told for each. Several ranks (--rank 16,32,64) print that table and write nothing.
--clusters auto takes the least number, at most ${MOST_CLUSTERS}, whose sets hold --captured of the
LoRAs' energy in the mean. LoRAs are read one after the other, some tens of times.
`,
} as const;

interface Said {
  readonly calibration: string | undefined;
  readonly captured: number | undefined;
  readonly clusters: number | "auto" | undefined;
  readonly fromLoras: readonly string[];
  readonly maker: string | undefined;
  readonly model: string | undefined;
  readonly modules: string | undefined;
  readonly out: string | undefined;
  readonly rank: readonly number[];
  readonly seed: number | undefined;
  readonly float16: boolean;
}

/** @param wrong makes the refusal of a text */
export function compressFlags(
  said: Said,
  more: readonly string[],
  wrong: (what: string) => TypeError,
): CompressFlags {
  const idle = (["calibration", "maker", "modules"] as const).find((name) =>
    said[name] !== undefined
  );
  if (idle !== undefined) throw wrong(`--${idle} has no effect with --from-loras`);
  const { model, fromLoras, clusters = 1, captured, seed = 0, out } = said;
  if (captured !== undefined && clusters !== "auto") {
    throw wrong("--captured is for --clusters auto");
  }
  const ranks = said.rank.length === 0 ? [DEFAULT_RANK] : [...new Set(said.rank)];
  if (ranks.length === 1 && out === undefined) {
    throw wrong("--out is missing: the directory to write");
  }
  if (ranks.length > 1 && out !== undefined) {
    throw wrong(`--out is for one rank, --rank is ${ranks.join()}`);
  }
  return {
    model,
    loras: [...fromLoras, ...more],
    ranks: ranks.toSorted((a, b) => a - b),
    clusters,
    enough: (captured ?? DEFAULT_CAPTURED) / 100,
    seed,
    storage: said.float16 ? "float16" : "float32",
    out,
  };
}
