/**
 * A bound on the tokens that a model reasons in: once they are out, the mark that ends reasoning is
 * written token by token, and the answer follows. Trap: a mark may be several tokens, spelled in more
 * than one way, so that marks are looked for in the text.
 */

/** Where reasoning begins and ends, and how long it may be. */
export interface ReasoningBudget {
  /** Most tokens behind the first mark, or behind the prompt where that has it. */
  readonly tokens: number;
  readonly start: string;
  /** Texts that end the reasoning: the last mark, and what opens a call. */
  readonly ends: readonly string[];
  /** The last mark's tokens. */
  readonly closing: readonly number[];
  /**
   * How the text begins: `within` the reasoning, which the prompt has opened; `unmarked`, where it is
   * reasoning with or without the first mark; or `before` that mark, without which it is the answer.
   */
  readonly begins: "within" | "unmarked" | "before";
}

/** What bounds one sequence's reasoning. */
export class ReasoningBound {
  readonly #budget: ReasoningBudget;
  readonly #spell: (token: number) => string;
  readonly #longest: number;
  #state: "before" | "within" | "closing" | "over";
  /** The text so far before the reasoning, within it its last characters. */
  #text = "";
  /** Tokens of the reasoning, or of the mark that ends it. */
  #count = 0;

  /** @param spell a token's bytes, a character each */
  constructor(budget: ReasoningBudget, spell: (token: number) => string) {
    this.#budget = budget;
    this.#spell = spell;
    this.#longest = Math.max(...budget.ends.map((end) => end.length));
    this.#state = budget.begins === "within" ? "within" : "before";
    this.#spend();
  }

  /** Whether it bars nothing any more. */
  get over(): boolean {
    return this.#state === "over";
  }

  /** The only token that may come next; undefined = any. */
  get forced(): number | undefined {
    return this.#state === "closing" ? this.#budget.closing[this.#count] : undefined;
  }

  push(token: number): void {
    if (this.#state === "over") return;
    this.#count++;
    if (this.#state === "closing") {
      if (this.#count === this.#budget.closing.length) this.#state = "over";
      return;
    }
    this.#text += this.#spell(token);
    if (this.#state === "before") this.#begin();
    if (this.#state === "within") this.#end();
    this.#spend();
  }

  #begin(): void {
    const { start, begins } = this.#budget;
    const word = this.#text.trimStart();
    if (word.startsWith(start)) {
      this.#state = "within";
      this.#text = word.slice(start.length);
      this.#count = 0;
    } else if (!start.startsWith(word)) this.#state = begins === "unmarked" ? "within" : "over";
  }

  #end(): void {
    if (this.#budget.ends.some((end) => this.#text.includes(end))) this.#state = "over";
    else this.#text = this.#text.slice(-this.#longest);
  }

  #spend(): void {
    if (this.#state !== "within" || this.#count < this.#budget.tokens) return;
    this.#state = "closing";
    this.#count = 0;
  }
}
