/**
 * From records to tokens with weights, so that training sees what inference sees: a prompt is
 * tokenised as the server tokenises it, an answer as the model would go on from it.
 */
import type { ChatMessage, Checkpoint } from "../../checkpoint/checkpoint.ts";
import type { Tool } from "../../checkpoint/text/tools.ts";
import { BrokenLine, shown, type WarningList } from "./faults.ts";
import type { TrainRecord } from "./jsonl.ts";
import type { TrainMessage } from "./messages.ts";
import { type Encode, SectionEncoder } from "./sections.ts";

/** What of a checkpoint rendering needs. */
export type TextSource = Pick<Checkpoint, "id" | "tokenizer" | "chatTemplate"> & {
  readonly config: Pick<Checkpoint["config"], "eosTokenIds" | "vocabSize" | "maxPositions">;
};

/**
 * Tokens and the weight of the loss of predicting each; it ends with the last that has any. A prompt
 * that waits for its answer has none.
 */
export interface Row {
  readonly tokens: number[];
  readonly weights: number[];
}

/** Renders the records of one file. */
export class RecordRenderer {
  readonly #source: TextSource;
  readonly #warnings: WarningList;
  readonly #ends: ReadonlySet<number>;
  readonly #sections: SectionEncoder;

  /** @param warnings hears of answers without an end, or split conversations */
  constructor(source: TextSource, warnings: WarningList) {
    this.#source = source;
    this.#warnings = warnings;
    this.#ends = new Set(source.config.eosTokenIds);
    this.#sections = new SectionEncoder(source.tokenizer);
  }

  /**
   * One row, or more where a template or the tokens of a conversation's later prompts do not go on
   * from its earlier ones (a template that drops old reasoning): then each answer that needs it is
   * in a row of its own, after the very prompt of inference.
   *
   * @throws {BrokenLine} where the template refuses the conversation, or no answer can be told
   * @throws {TypeError} for a conversation where the checkpoint has no chat template
   */
  render(record: TrainRecord): readonly Row[] {
    const prompt = this.#openPrompt(record);
    if (prompt !== undefined) {
      this.#checkIds(prompt);
      if (prompt.length === 0) {
        throw new BrokenLine("its prompt is empty: there is nothing to answer");
      }
      return [{ tokens: [...prompt], weights: prompt.map(() => 0) }];
    }
    const rows = record.type === "chat" ? this.#conversation(record) : [this.#completion(record)];
    for (const { tokens, weights } of rows) {
      this.#checkIds(tokens);
      // Nothing comes before the first token that it could be predicted from.
      if (weights.length > 0) weights[0] = 0;
      if (weights.every((weight) => weight === 0)) {
        throw new BrokenLine("no token carries loss: there is nothing to predict");
      }
    }
    if (rows.length > 1) {
      this.#warnings.add(
        record.line,
        "a later prompt does not begin with the tokens of the turns before it: " +
          "its answer becomes a row of its own",
      );
    }
    return rows;
  }

  /** The tokens of a record whose answer is to come; undefined where it is there. */
  #openPrompt(record: TrainRecord): readonly number[] | undefined {
    if (record.type === "completion") {
      return record.completion === undefined
        ? this.#source.tokenizer.encode(record.prompt)
        : undefined;
    }
    const messages = record.messages.map(messageOf);
    if (messages.at(-1)?.role === "assistant") return undefined;
    const prompt = this.#apply(messages, record.tools, { addGenerationPrompt: true });
    return this.#sections.plain(prompt);
  }

  /** A tokenizer may know more tokens than the embedding has rows. */
  #checkIds(tokens: readonly number[]): void {
    const { config: { vocabSize }, tokenizer } = this.#source;
    const beyond = tokens.find((id) => id >= vocabSize);
    if (beyond === undefined) return;
    throw new BrokenLine(
      `it has the token ${shown(tokenizer.tokenText(beyond))} with the id ${beyond}, ` +
        `the model has ids below ${vocabSize}`,
    );
  }

  #conversation({ line, messages, tools }: TrainRecord & { type: "chat" }): readonly Row[] {
    const rows: Row[] = [];
    const encode = this.#encoderOf(messages, tools);
    for (const [i, { weight }] of messages.entries()) {
      if (weight === 0) continue;
      const begun = messages.slice(0, i + 1).map(messageOf);
      const { prompt, answer } = this.#answer(begun, tools, encode);
      const row = rows.at(-1);
      const goesOn = row !== undefined && startsWith(prompt, row.tokens);
      const into = goesOn ? row : { tokens: [], weights: [] };
      if (!goesOn) rows.push(into);
      append(into, prompt.slice(into.tokens.length), 0);
      append(into, this.#untilEnd(line, answer), weight);
    }
    return rows;
  }

  /** Beginnings of a conversation share most of their text. */
  #encoderOf(messages: readonly TrainMessage[], tools: readonly Tool[]): Encode {
    const answers = messages.filter(({ weight }) => weight > 0).length;
    if (answers < 2) return this.#sections.plain;
    return this.#sections.sharing(
      this.#apply(messages.map(messageOf), tools, { addGenerationPrompt: false }),
    );
  }

  /** The last message's tokens, and those of the prompt that it answers. */
  #answer(
    messages: readonly ChatMessage[],
    tools: readonly Tool[],
    encode: Encode,
  ): Continuation {
    const at = `messages[${messages.length - 1}]`;
    if (messages.length === 1) {
      throw new BrokenLine(`${at} is the assistant's, but there is nothing before it to answer`);
    }
    const prompt = this.#apply(messages.slice(0, -1), tools, { addGenerationPrompt: true });
    const whole = this.#apply(messages, tools, { addGenerationPrompt: false });
    if (!whole.startsWith(prompt)) throw notAnAnswer(at, prompt, whole);
    return this.#continuation(at, prompt, whole, encode);
  }

  #apply(
    messages: readonly ChatMessage[],
    tools: readonly Tool[],
    options: { readonly addGenerationPrompt: boolean },
  ): string {
    const { chatTemplate, id } = this.#source;
    if (chatTemplate === undefined) {
      throw new TypeError(
        `Cannot train on conversations: ${id} has no chat template, ` +
          "only prompts with completions work",
      );
    }
    if (chatTemplate.fault !== undefined) {
      throw new TypeError(`Cannot train on conversations with ${id}: ${chatTemplate.fault}`);
    }
    try {
      return chatTemplate.render(messages, { ...options, ...(tools.length > 0 && { tools }) });
    } catch (error) {
      if (error instanceof TypeError) throw new BrokenLine(error.message);
      throw error;
    }
  }

  /** Up to the end-of-turn token, which the model has to learn to say; not the newline after it. */
  #untilEnd(line: number, answer: readonly number[]): readonly number[] {
    const end = answer.findLastIndex((id) => this.#ends.has(id));
    if (end < 0) {
      this.#warnings.add(
        line,
        "the chat template ends no answer with an end token of the model: all of it carries loss",
      );
      return answer;
    }
    if (answer.findIndex((id) => this.#ends.has(id)) < end) {
      this.#warnings.add(
        line,
        "an answer has the end token within it: generation would stop there",
      );
    }
    return answer.slice(0, end + 1);
  }

  #completion({ line, prompt, completion = "" }: TrainRecord & { type: "completion" }): Row {
    const encode: Encode = (text) => this.#source.tokenizer.encode(text);
    const continued = this.#continuation("completion", prompt, prompt + completion, encode);
    const row: Row = { tokens: [], weights: [] };
    append(row, continued.prompt, 0);
    append(row, continued.answer, 1);
    const end = this.#source.config.eosTokenIds[0];
    if (end === undefined) {
      this.#warnings.add(line, "the model has no end token: completions are left without an end");
    } else if (!this.#ends.has(continued.answer.at(-1) ?? -1)) append(row, [end], 1);
    return row;
  }

  /**
   * The prompt's tokens as inference has them, and those that go on from them to the whole text:
   * what the whole text has after them where it begins with them, else (a token would reach across
   * the border, as "\n" and "\n\nYes" in one) the rest by itself.
   */
  #continuation(at: string, prompt: string, whole: string, encode: Encode): Continuation {
    const before = encode(prompt);
    const all = encode(whole);
    if (startsWith(all, before)) return { prompt: before, answer: all.slice(before.length) };
    const rest = this.#sections.plain(whole.slice(prompt.length));
    const text = (ids: readonly number[]): string => this.#source.tokenizer.decode(ids);
    if (text([...before, ...rest]) === text(all)) return { prompt: before, answer: rest };
    throw new BrokenLine(
      `${at} cannot be told from its prompt: by itself, ` +
        `${shown(whole.slice(prompt.length))} is ${shown(text(rest))} to the tokenizer`,
    );
  }
}

interface Continuation {
  readonly prompt: readonly number[];
  readonly answer: readonly number[];
}

function messageOf({ message }: TrainMessage): ChatMessage {
  return message;
}

function startsWith(ids: readonly number[], start: readonly number[]): boolean {
  return start.length <= ids.length && start.every((id, i) => ids[i] === id);
}

function append({ tokens, weights }: Row, ids: readonly number[], weight: number): void {
  for (const id of ids) {
    tokens.push(id);
    weights.push(weight);
  }
}

function notAnAnswer(at: string, prompt: string, whole: string): BrokenLine {
  let same = 0;
  while (same < prompt.length && prompt[same] === whole[same]) same++;
  return new BrokenLine(
    `${at} cannot be trained: where the chat template's prompt goes on with ` +
      `${shown(prompt.slice(same))}, it renders the answered conversation with ` +
      `${shown(whole.slice(same))}`,
  );
}
