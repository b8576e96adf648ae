/** The flags of `deno task train` that have a core follow a teacher, and what they come to. */
import {
  DEFAULT_FOLLOWING,
  FOLLOWED_ON,
  type Following,
  MOST_TEACHER_TOKENS,
} from "../../../../adapters/training/distillation/taught_rows.ts";
import {
  anyText,
  FlagError,
  type FlagType,
  type FlagValues,
  integer,
  oneOf,
  type ToldTable,
} from "../../flags.ts";

/** Whom a core follows, and how; the seed is the run's. */
export interface Follow extends Omit<Following, "seed"> {
  /** A path, or a name under `--out`. */
  readonly teacher: string;
}

/** What a report says of a teacher. */
export interface FollowedTeacher extends Follow {
  /** SHA-256 of its adapter, hex. */
  readonly digest: string;
  /** Share of its probability that its known tokens hold: the mean over positions. */
  readonly mass: number;
}

const temperature: FlagType<number> = {
  read: (text) => {
    const value = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : NaN;
    return value <= 2 ? value : undefined;
  },
  right: "a number from 0 to 2",
};

const { on, count, maxTokens, temperature: usual } = DEFAULT_FOLLOWING;

export const TEACHER_FLAGS = {
  teacher: {
    value: "PATH|NAME",
    type: anyText,
    help: "follows this model's distributions instead of learning the rows' tokens: a PEFT " +
      "directory, a LoRA or core file, or a name under --out (with --server, one that is served); " +
      "rows may be prompts alone",
  },
  on: {
    value: FOLLOWED_ON.join("|"),
    type: oneOf(FOLLOWED_ON),
    help:
      "follows it on the rows' answers, on its own, or on both; auto = a row's answer where it " +
      `has one, else the teacher's (default: ${on})`,
  },
  "teacher-tokens": {
    value: "K",
    type: integer(1, MOST_TEACHER_TOKENS),
    help: "its likeliest tokens that count one by one at each position, the others together " +
      `(default: ${count})`,
  },
  temperature: {
    value: "T",
    type: temperature,
    help: `at which the teacher answers; 0 = always its likeliest token (default: ${usual})`,
  },
  "max-tokens": {
    value: "N",
    type: integer(1, 1 << 24),
    help: `most tokens of an answer of the teacher's (default: ${maxTokens})`,
  },
} as const satisfies ToldTable;

/** @throws {FlagError} for a flag that says how, where nobody is followed */
export function followOf(values: FlagValues<typeof TEACHER_FLAGS>): Follow | undefined {
  const { teacher, on, teacherTokens, temperature, maxTokens } = values;
  if (teacher !== undefined) {
    return {
      teacher,
      on: on ?? DEFAULT_FOLLOWING.on,
      count: teacherTokens ?? DEFAULT_FOLLOWING.count,
      temperature: temperature ?? DEFAULT_FOLLOWING.temperature,
      maxTokens: maxTokens ?? DEFAULT_FOLLOWING.maxTokens,
    };
  }
  const [left] = Object.entries({
    "on": on,
    "teacher-tokens": teacherTokens,
    "temperature": temperature,
    "max-tokens": maxTokens,
  }).filter(([, value]) => value !== undefined);
  if (left === undefined) return undefined;
  throw new FlagError(
    `Cannot use --${left[0]} by itself: it says how a teacher is followed; name one by --teacher.`,
  );
}
