/** Checks JSON text one character at a time, and says at once where it can be none. */

/** What a character did: the value goes on, ended with it, or cannot be JSON any more. */
export type Scanned = "more" | "done" | "fault";

type State =
  | "value"
  | "first item"
  | "first key"
  | "key"
  | "colon"
  | "after"
  | "string"
  | "escape"
  | "hex"
  | "number"
  | "word"
  | "done";

const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
const WORDS = ["true", "false", "null"];
/** Levels that a call's arguments have at most. */
const MAX_DEPTH = 100;

/** One JSON value. A number by itself does not end with a character of its own: see `complete`. */
export class JsonScanner {
  #state: State = "value";
  /** The brackets that are open. */
  readonly #open: ("{" | "[")[] = [];
  /** A number or a word so far, or the hexadecimal digits of an escape. */
  #text = "";
  #inKey = false;

  /** Whether the text so far is a value: one that has ended, or a number that may go on. */
  get complete(): boolean {
    if (this.#open.length > 0) return false;
    return this.#state === "done" || (this.#state === "number" && NUMBER.test(this.#text));
  }

  push(character: string): Scanned {
    switch (this.#state) {
      case "string":
        return this.#string(character);
      case "escape":
        return this.#escape(character);
      case "hex":
        return this.#hex(character);
      case "number":
        if (/[0-9+\-.eE]/.test(character)) return this.#add(character);
        return NUMBER.test(this.#text) ? this.#after(character) : "fault";
      case "word":
        return this.#word(character);
      case "done":
        return "fault";
      default:
        return /[ \t\r\n]/.test(character) ? "more" : this.#structure(this.#state, character);
    }
  }

  #structure(state: State, character: string): Scanned {
    switch (state) {
      case "first key":
        if (character === "}") return this.#close();
        return this.#key(character);
      case "key":
        return this.#key(character);
      case "colon":
        return character === ":" ? this.#to("value") : "fault";
      case "first item":
        return character === "]" ? this.#close() : this.#value(character);
      case "after":
        return this.#after(character);
      default:
        return this.#value(character);
    }
  }

  #to(state: State): Scanned {
    this.#state = state;
    return state === "done" ? "done" : "more";
  }

  #add(character: string): Scanned {
    this.#text += character;
    return "more";
  }

  #key(character: string): Scanned {
    this.#inKey = true;
    return character === '"' ? this.#to("string") : "fault";
  }

  #value(character: string): Scanned {
    if (character === "{" || character === "[") {
      if (this.#open.push(character) > MAX_DEPTH) return "fault";
      return this.#to(character === "{" ? "first key" : "first item");
    }
    this.#inKey = false;
    if (character === '"') return this.#to("string");
    this.#text = character;
    if (/[-0-9]/.test(character)) return this.#to("number");
    return /[tfn]/.test(character) ? this.#to("word") : "fault";
  }

  /** A value inside of a bracket has ended, or the whole with it. */
  #ended(): Scanned {
    return this.#to(this.#open.length === 0 ? "done" : "after");
  }

  #after(character: string): Scanned {
    const open = this.#open.at(-1);
    if (/[ \t\r\n]/.test(character)) return this.#to(open === undefined ? "done" : "after");
    if (open === undefined) return "fault";
    if (character === ",") {
      return this.#to(open === "{" ? "key" : "value");
    }
    return character === (open === "{" ? "}" : "]") ? this.#close() : "fault";
  }

  #close(): Scanned {
    this.#open.pop();
    return this.#ended();
  }

  #string(character: string): Scanned {
    if (character === "\\") return this.#to("escape");
    if (character < " ") return "fault";
    if (character !== '"') return "more";
    return this.#inKey ? this.#to("colon") : this.#ended();
  }

  #escape(character: string): Scanned {
    this.#text = "";
    if (character === "u") return this.#to("hex");
    return /["\\/bfnrt]/.test(character) ? this.#to("string") : "fault";
  }

  #hex(character: string): Scanned {
    if (!/[0-9a-fA-F]/.test(character)) return "fault";
    this.#text += character;
    return this.#text.length === 4 ? this.#to("string") : "more";
  }

  #word(character: string): Scanned {
    this.#text += character;
    if (WORDS.includes(this.#text)) return this.#ended();
    return WORDS.some((word) => word.startsWith(this.#text)) ? "more" : "fault";
  }
}
