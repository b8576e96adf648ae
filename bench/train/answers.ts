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
  const greedy = { ...named, temperature: 0 };
  const exact = new Array<string>(rows.length);
  const likeliest = new Array<string>(rows.length);
  const next = rows.entries();
  const work = async () => {
    for (const [i, { messages, answer }] of next) {
      const { text } = await lembas.chat(messages, { ...greedy, maxTokens: ANSWER_TOKENS });
      exact[i] = text.trim() === answer ? "1" : "0";
      const first = await lembas.chat(messages, { ...greedy, maxTokens: 1, logitBias: bias });
      likeliest[i] = first.tokens[0] === labels.get(answer) ? "1" : "0";
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return {
    exact: shareOf(exact),
    label: shareOf(likeliest),
    rowsExact: exact.join(""),
    rowsLabel: likeliest.join(""),
  };
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

function shareOf(verdicts: readonly string[]): number {
  return verdicts.filter((one) => one === "1").length / verdicts.length;
}
