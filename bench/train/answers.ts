/**
 * Whether a model answers rows rightly, asked through the real engine as a client would: by its
 * greedy answer, and by which label's first token it finds likeliest.
 */
import type { Lembas } from "../../adapters/lembas.ts";
import type { Judged } from "./data.ts";
import type { Accuracy } from "./runs.ts";

export interface Verdicts extends Accuracy {
  /** "1" or "0" for each row. */
  readonly rowsExact: string;
  readonly rowsLabel: string;
}

/** Tokens of a greedy answer, its end included. */
const ANSWER_TOKENS = 8;
/** So much above what any logit is: only biased tokens remain. */
const ONLY = 100;
/** Rows that run or wait at once: always enough for a full batch. */
const AT_ONCE = 64;

/**
 * Judges rows; labels are the answers that occur among them.
 * @param adapter undefined = the base
 * @throws {TypeError} where two labels begin with the same token
 */
export async function judge(
  lembas: Lembas,
  rows: readonly Judged[],
  adapter: string | undefined,
): Promise<Verdicts> {
  const labels = labelTokens(lembas, rows);
  const bias = new Map([...labels.values()].map((token) => [token, ONLY]));
  const named = adapter === undefined ? {} : { adapter };
  const exact = await exactVerdicts(lembas, rows, { ...named, maxTokens: ANSWER_TOKENS });
  const likeliest = await verdictsOf(rows, async ({ messages, answer }) => {
    const options = { ...named, temperature: 0, maxTokens: 1, logitBias: bias };
    const { tokens } = await lembas.chat(messages, options);
    return tokens[0] === labels.get(answer);
  });
  return {
    exact: shareOf(exact),
    label: shareOf(likeliest),
    rowsExact: exact.join(""),
    rowsLabel: likeliest.join(""),
  };
}

/** "1" for each row whose greedy answer is the row's own, "0" for others. */
export async function exactVerdicts(
  lembas: Lembas,
  rows: readonly Judged[],
  options: { readonly adapter?: string; readonly maxTokens: number },
): Promise<readonly string[]> {
  return await verdictsOf(rows, async ({ messages, answer }) => {
    const { text } = await lembas.chat(messages, { ...options, temperature: 0 });
    return text.trim() === answer;
  });
}

/** Share of "1" among verdicts. */
export function shareOf(verdicts: readonly string[]): number {
  return verdicts.filter((one) => one === "1").length / verdicts.length;
}

async function verdictsOf(
  rows: readonly Judged[],
  isRight: (row: Judged) => Promise<boolean>,
): Promise<readonly string[]> {
  const verdicts = new Array<string>(rows.length);
  const next = rows.entries();
  const work = async () => {
    for (const [i, row] of next) verdicts[i] = await isRight(row) ? "1" : "0";
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return verdicts;
}

/** The first token of each label. */
function labelTokens(
  { checkpoint: { tokenizer } }: Lembas,
  rows: readonly Judged[],
): ReadonlyMap<string, number> {
  const labels = [...new Set(rows.map(({ answer }) => answer))].sort();
  const firsts = new Map(
    labels.map((label) => [label, tokenizer.encode(label, { addSpecialTokens: false })[0]]),
  );
  if (new Set(firsts.values()).size < firsts.size) {
    throw new TypeError(`Cannot judge by label: two of ${labels.join(", ")} begin alike`);
  }
  return firsts;
}
