/**
 * The decimal spellings of the numbers that a schema allows, as an automaton. Numbers are compared
 * as decimals, digit by digit, never as floats. Spellings are canonical: no leading zeros, no
 * negative zero, an exponent only where the number is not constrained, and for multiples at most as
 * many digits behind the point as the step has.
 */
import { type Automaton, explore } from "../automata/automaton.ts";

/** A schema's constraints on a number. */
export interface NumberRange {
  readonly type: "integer" | "number";
  readonly bounds: readonly Bound[];
  readonly multipleOf: number | undefined;
}

export interface Bound {
  readonly side: "least" | "most";
  readonly value: number;
  /** Whether the bound itself is allowed. */
  readonly inclusive: boolean;
}

/** Most digits of a number that may have a fraction: so many tell all doubles apart. */
export const MOST_DIGITS = 15;
/** Most digits of an integer: enough for 64 bits. */
export const MOST_INTEGER_DIGITS = 19;
/** Most digits of an exponent: more would leave the range of doubles. */
const MOST_EXPONENT_DIGITS = 2;
/** Largest divisor: the machine has a state for each remainder. */
const LARGEST_DIVISOR = 100;

/** A non-negative decimal: its digits before and after the point. */
interface Decimal {
  readonly whole: string;
  readonly fraction: string;
}

type Order = "below" | "equal" | "above";

/**
 * Spellings of the numbers in a range.
 * @throws {TypeError} saying why a multiple cannot be expressed.
 */
export function numberAutomaton(range: NumberRange): Automaton {
  return explore(new Speller(range));
}

/** What has been spelled of a number so far. */
interface Spelled {
  readonly sign: "" | "-";
  readonly part: "start" | "sign" | "zero" | "whole" | "point" | "fraction" | "e" | "power";
  /** Digits so far; those of an exponent are counted from 0. */
  readonly digits: number;
  /** Digits of the whole part, counted up to one more than any bound has. */
  readonly wholeDigits: number;
  readonly fractionDigits: number;
  /** How the digits so far compare with each limit's. */
  readonly orders: readonly Order[];
  readonly remainder: number;
}

const CHARACTERS = "+-.0123456789Ee";

/**
 * A limit of the magnitudes of one sign. For negative numbers one is "above 0", so that -0 is never
 * spelled.
 */
interface Limit extends Decimal {
  readonly sign: "" | "-";
  readonly allowed: readonly Order[];
}

class Speller {
  readonly start: Spelled;
  readonly #range: NumberRange;
  readonly #limits: readonly Limit[];
  readonly #divisor: { readonly by: number; readonly places: number };
  readonly #longestWhole: number;
  readonly #longestFraction: number;
  readonly #plain: boolean;

  constructor(range: NumberRange) {
    this.#range = range;
    this.#limits = range.bounds.flatMap(limitsOf).concat(
      { sign: "-", whole: "0", fraction: "", allowed: ["above"] },
    );
    this.#divisor = divisorOf(range.multipleOf);
    this.#longestWhole = Math.max(...this.#limits.map(({ whole }) => whole.length));
    this.#longestFraction = Math.max(...this.#limits.map(({ fraction }) => fraction.length));
    this.#plain = range.bounds.length === 0 && range.multipleOf === undefined;
    this.start = {
      sign: "",
      part: "start",
      digits: 0,
      wholeDigits: 0,
      fractionDigits: 0,
      orders: this.#limits.map(() => "equal"),
      remainder: 0,
    };
  }

  key(spelled: Spelled): string {
    return Object.values(spelled).join();
  }

  accepts(spelled: Spelled): boolean {
    if (spelled.part === "power") return true;
    if (!["zero", "whole", "fraction"].includes(spelled.part)) return false;
    const { by, places } = this.#divisor;
    const scale = 10 ** Math.max(0, places - spelled.fractionDigits) % by;
    if (spelled.remainder * scale % by !== 0) return false;
    return this.#limits.every((limit, index) =>
      limit.sign !== spelled.sign || limit.allowed.includes(orderAtEnd(spelled, limit, index))
    );
  }

  edges(spelled: Spelled): { first: number; last: number; to: Spelled }[] {
    return [...CHARACTERS].flatMap((character) => {
      const to = this.#step(spelled, character);
      const point = character.charCodeAt(0);
      return to === undefined ? [] : [{ first: point, last: point, to }];
    });
  }

  #step(spelled: Spelled, character: string): Spelled | undefined {
    if (character === "-" || character === "+") return this.#signed(spelled, character);
    if (character === ".") return this.#point(spelled);
    if (/[eE]/.test(character)) return this.#exponent(spelled);
    const digit = Number(character);
    switch (spelled.part) {
      case "start":
      case "sign":
        return this.#digit({ ...spelled, part: digit === 0 ? "zero" : "whole" }, digit);
      case "whole":
        return this.#digit(spelled, digit);
      case "point":
      case "fraction":
        return this.#digit({ ...spelled, part: "fraction" }, digit);
      case "e":
      case "power":
        if (spelled.digits === MOST_EXPONENT_DIGITS) return undefined;
        return { ...spelled, part: "power", digits: spelled.digits + 1 };
      default:
        return undefined;
    }
  }

  #signed(spelled: Spelled, sign: "-" | "+"): Spelled | undefined {
    if (spelled.part === "e" && spelled.wholeDigits === 0) return { ...spelled, wholeDigits: 1 };
    return spelled.part === "start" && sign === "-"
      ? { ...spelled, sign, part: "sign" }
      : undefined;
  }

  #point(spelled: Spelled): Spelled | undefined {
    if (this.#range.type === "integer" || !["zero", "whole"].includes(spelled.part)) {
      return undefined;
    }
    const orders = this.#limits.map((limit, index) => orderOfWhole(spelled, limit, index));
    return { ...spelled, part: "point", wholeDigits: 0, orders };
  }

  /** An exponent; from here on the number only has to end. */
  #exponent(spelled: Spelled): Spelled | undefined {
    const may = this.#plain && this.#range.type === "number" && spelled.part !== "power";
    if (!may || !this.accepts(spelled)) return undefined;
    return { ...this.start, part: "e" };
  }

  #digit(spelled: Spelled, digit: number): Spelled | undefined {
    const most = this.#range.type === "integer" ? MOST_INTEGER_DIGITS : MOST_DIGITS;
    if (spelled.digits >= most) return undefined;
    const inFraction = spelled.part === "fraction";
    const { by, places } = this.#divisor;
    const at = inFraction ? spelled.fractionDigits : spelled.wholeDigits;
    // a multiple has no digits beyond its step's but zeros, which nobody needs
    if (inFraction && this.#range.multipleOf !== undefined && at >= places) return undefined;
    return {
      ...spelled,
      digits: spelled.digits + 1,
      wholeDigits: inFraction ? 0 : Math.min(at + 1, this.#longestWhole + 1),
      fractionDigits: inFraction ? Math.min(at + 1, Math.max(places, this.#longestFraction)) : 0,
      orders: this.#limits.map((limit, index) => {
        const order = spelled.orders[index] ?? "equal";
        if (limit.sign !== spelled.sign) return "equal"; // it does not matter here
        if (!inFraction && at >= limit.whole.length) return "above";
        if (order !== "equal") return order;
        const digits = inFraction ? limit.fraction : limit.whole;
        return compare(digit, Number(digits.charAt(at) || "0"));
      }),
      remainder: (spelled.remainder * 10 + digit) % by,
    };
  }
}

function compare(a: number, b: number): Order {
  return a < b ? "below" : a > b ? "above" : "equal";
}

/** A number with more digits before the point is the larger one. */
function orderOfWhole(spelled: Spelled, limit: Limit, index: number): Order {
  const byLength = compare(spelled.wholeDigits, limit.whole.length);
  return byLength === "equal" ? spelled.orders[index] ?? "equal" : byLength;
}

function orderAtEnd(spelled: Spelled, limit: Limit, index: number): Order {
  if (spelled.part !== "fraction") {
    const order = orderOfWhole(spelled, limit, index);
    return order === "equal" && /[1-9]/.test(limit.fraction) ? "below" : order;
  }
  const order = spelled.orders[index] ?? "equal";
  const rest = limit.fraction.slice(spelled.fractionDigits);
  return order === "equal" && /[1-9]/.test(rest) ? "below" : order;
}

/** A bound on the number, as limits of the magnitudes of both signs. */
function limitsOf({ side, value, inclusive }: Bound): readonly Limit[] {
  const own = value < 0 ? "-" : "";
  const equal: readonly Order[] = inclusive ? ["equal"] : [];
  // among the negative numbers a larger magnitude is a smaller number
  const larger = (side === "least") === (own === "");
  const limit: Limit = {
    ...decimal(Math.abs(value)),
    sign: own,
    allowed: [larger ? "above" : "below", ...equal],
  };
  if ((side === "least") !== (own === "")) return [limit];
  const none: Limit = { sign: own === "" ? "-" : "", whole: "0", fraction: "", allowed: [] };
  return [limit, none];
}

/** The shortest decimal of a double: what the schema's author wrote. */
function decimal(value: number): Decimal {
  const { digits, exponent } = scientific(value);
  const padded = digits.padEnd(exponent + 1, "0");
  if (exponent < 0) return { whole: "0", fraction: "0".repeat(-exponent - 1) + digits };
  return { whole: padded.slice(0, exponent + 1), fraction: padded.slice(exponent + 1) };
}

function scientific(value: number): { readonly digits: string; readonly exponent: number } {
  const [mantissa = "0", exponent = "0"] = value.toExponential().split("e");
  return { digits: mantissa.replace(".", ""), exponent: Number(exponent) };
}

/** The step of `multipleOf` as an integer, and how many of its digits are behind the point. */
function divisorOf(multipleOf: number | undefined): { by: number; places: number } {
  if (multipleOf === undefined) return { by: 1, places: 0 };
  const { digits, exponent } = scientific(multipleOf);
  const places = Math.max(0, digits.length - 1 - exponent);
  const by = Number(digits) * 10 ** Math.max(0, exponent + 1 - digits.length);
  if (by > LARGEST_DIVISOR || places > MOST_DIGITS) {
    throw new TypeError(
      `is ${multipleOf}: a grammar counts multiples of up to ${LARGEST_DIVISOR} times a power of ten`,
    );
  }
  return { by, places };
}
