/**
 * Deterministic finite automata over code points: the strings, keys or spellings of numbers that a
 * schema allows. Surrogates do not count as characters. An automaton that would get too many states
 * throws, so that no pattern can occupy its thread for long.
 */

/** Inclusive code points. */
export type Range = readonly [first: number, last: number];

/** Where a range of code points leads. */
export interface Edge {
  readonly first: number;
  readonly last: number;
  readonly to: number;
}

export interface State {
  readonly accepts: boolean;
  /** Sorted, disjoint; a code point without an edge is refused. */
  readonly edges: readonly Edge[];
}

/**
 * State 0 is the start. From every state an accepting one can be reached, except where no string is
 * accepted.
 */
export type Automaton = readonly State[];

/** A machine given by its steps; two states with the same `key` are one. */
export interface Machine<S> {
  readonly start: S;
  key(state: S): string;
  accepts(state: S): boolean;
  /** Sorted and disjoint. */
  edges(state: S): readonly { readonly first: number; readonly last: number; readonly to: S }[];
}

/** Most states of an automaton while it is made. */
export const MOST_STATES = 4096;
const SURROGATES: Range = [0xD800, 0xDFFF];
const LAST = 0x10FFFF;
/** All characters. */
export const CHARACTERS: readonly Range[] = [[0, 0xD7FF], [0xE000, LAST]];

/** Thrown where an automaton would need more than `MOST_STATES`. */
export class TooManyStatesError extends RangeError {
  override readonly name = "TooManyStatesError";
  constructor() {
    super(`needs more than ${MOST_STATES} states`);
  }
}

/**
 * Explores a machine from its start and makes it minimal.
 * @throws {TooManyStatesError}
 */
export function explore<S>(machine: Machine<S>): Automaton {
  const found = new Map<string, number>([[machine.key(machine.start), 0]]);
  const queue: S[] = [machine.start];
  const states: State[] = [];
  for (let state = queue[0]; state !== undefined; state = queue[states.length]) {
    const edges = machine.edges(state).map(({ first, last, to }) => {
      const key = machine.key(to);
      const known = found.get(key) ?? queue.length;
      if (known === queue.length) {
        if (known >= MOST_STATES) throw new TooManyStatesError();
        found.set(key, known);
        queue.push(to);
      }
      return { first, last, to: known };
    });
    states.push({ accepts: machine.accepts(state), edges });
  }
  return minimal(live(states));
}

/** The strings that both accept. */
export function intersect(a: Automaton, b: Automaton): Automaton {
  return explore<readonly [number, number]>({
    start: [0, 0],
    key: (pair) => pair.join(),
    accepts: ([x, y]) => stateOf(a, x).accepts && stateOf(b, y).accepts,
    edges: ([x, y]) =>
      stateOf(a, x).edges.flatMap((one) =>
        stateOf(b, y).edges.flatMap((other) => {
          const first = Math.max(one.first, other.first);
          const last = Math.min(one.last, other.last);
          return first > last ? [] : [{ first, last, to: [one.to, other.to] as const }];
        })
      ),
  });
}

/** The strings that the automaton does not accept. */
export function anythingBut(words: readonly string[]): Automaton {
  const OTHER = null;
  return explore<string | null>({
    start: "",
    key: (prefix) => prefix === OTHER ? "other" : `=${prefix}`,
    accepts: (prefix) => prefix === OTHER || !words.includes(prefix),
    edges: (prefix) => {
      if (prefix === OTHER) return CHARACTERS.map(([first, last]) => ({ first, last, to: OTHER }));
      const next = new Set<number>();
      for (const word of words) {
        const point = word.startsWith(prefix) ? word.codePointAt(prefix.length) : undefined;
        if (point !== undefined && !isSurrogate(point)) next.add(point);
      }
      const named = [...next].map((point): Range => [point, point]);
      const others = except(CHARACTERS, named);
      return [
        ...named.map(([point]) => ({
          first: point,
          last: point,
          to: prefix + String.fromCodePoint(point),
        })),
        ...others.map(([first, last]) => ({ first, last, to: OTHER })),
      ].sort((one, other) => one.first - other.first);
    },
  });
}

/** Strings of `least` to `most` characters. */
export function ofLength(least: number, most: number | undefined): Automaton {
  const end = most ?? least;
  return explore<number>({
    start: 0,
    key: String,
    accepts: (length) => length >= least,
    edges: (length) => {
      if (length === end && most !== undefined) return [];
      const to = Math.min(length + 1, end);
      return CHARACTERS.map(([first, last]) => ({ first, last, to }));
    },
  });
}

/** Whether no string is accepted. */
export function isEmpty(automaton: Automaton): boolean {
  return !stateOf(automaton, 0).accepts && stateOf(automaton, 0).edges.length === 0;
}

/** Whether the string is one of the automaton's. */
export function accepts(automaton: Automaton, text: string): boolean {
  let at = 0;
  for (const character of text) {
    const point = character.codePointAt(0) ?? 0;
    const edge = stateOf(automaton, at).edges.find(({ first, last }) =>
      first <= point && point <= last
    );
    if (edge === undefined) return false;
    at = edge.to;
  }
  return stateOf(automaton, at).accepts;
}

/** Sorted, disjoint, without surrogates. */
export function union(ranges: readonly Range[]): readonly Range[] {
  const merged: [number, number][] = [];
  for (const [first, last] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const before = merged.at(-1);
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else merged.push([first, last]);
  }
  return merged.flatMap((range) => without(range, SURROGATES));
}

/** What is in `ranges` (sorted, disjoint) and not in `gone`. */
export function except(ranges: readonly Range[], gone: readonly Range[]): readonly Range[] {
  let left = ranges;
  for (const each of gone) left = left.flatMap((range) => without(range, each));
  return left;
}

function without([first, last]: Range, [from, to]: Range): readonly Range[] {
  if (to < first || from > last) return [[first, last]];
  const parts: Range[] = [];
  if (first < from) parts.push([first, from - 1]);
  if (to < last) parts.push([to + 1, last]);
  return parts;
}

function isSurrogate(point: number): boolean {
  return point >= SURROGATES[0] && point <= SURROGATES[1];
}

/** The state with this number, which must exist. */
export function stateOf(automaton: Automaton, index: number): State {
  const state = automaton[index];
  if (state === undefined) throw new RangeError(`internal: no state ${index}`);
  return state;
}

/** Removes states from which nothing is accepted: a mask must not lead there. */
function live(states: readonly State[]): readonly State[] {
  const sources = states.map((): number[] => []);
  for (const [from, { edges }] of states.entries()) {
    for (const { to } of edges) sources[to]?.push(from);
  }
  const alive = new Set<number>();
  const queue = [...states.keys()].filter((index) => states[index]?.accepts);
  for (let index = queue.pop(); index !== undefined; index = queue.pop()) {
    if (alive.has(index)) continue;
    alive.add(index);
    queue.push(...sources[index] ?? []);
  }
  return states.map(({ accepts, edges }) => ({
    accepts,
    edges: edges.filter(({ to }) => alive.has(to)),
  }));
}

/**
 * Moore's refinement: states are equal where both or neither accept and they lead to equal states.
 */
function minimal(states: readonly State[]): Automaton {
  let blocks = states.map(({ accepts }) => Number(accepts));
  let count = 0;
  for (;;) {
    const names = new Map<string, number>();
    const next = states.map((state, index) => {
      const name = `${blocks[index]}:${signature(state.edges, blocks)}`;
      const known = names.get(name) ?? names.size;
      names.set(name, known);
      return known;
    });
    blocks = next;
    if (names.size === count) break;
    count = names.size;
  }
  return quotient(states, blocks);
}

function signature(edges: readonly Edge[], blocks: readonly number[]): string {
  return merge(edges.map((edge) => ({ ...edge, to: blocks[edge.to] ?? 0 })))
    .map(({ first, last, to }) => `${first}-${last}>${to}`).join();
}

function merge(edges: readonly Edge[]): readonly Edge[] {
  const merged: Edge[] = [];
  for (const edge of [...edges].sort((a, b) => a.first - b.first)) {
    const before = merged.at(-1);
    if (before?.to === edge.to && before.last + 1 === edge.first) {
      merged[merged.length - 1] = { ...before, last: edge.last };
    } else merged.push(edge);
  }
  return merged;
}

/** One state for each block that the start reaches, the start's first. */
function quotient(states: readonly State[], blocks: readonly number[]): Automaton {
  const order: number[] = [0];
  const numbers = new Map<number, number>([[blocks[0] ?? 0, 0]]);
  const result: State[] = [];
  for (let at = order[0]; at !== undefined; at = order[result.length]) {
    const { accepts, edges } = stateOf(states, at);
    const renamed = edges.map((edge) => {
      const block = blocks[edge.to] ?? 0;
      const number = numbers.get(block) ?? order.length;
      if (number === order.length) {
        numbers.set(block, number);
        order.push(edge.to);
      }
      return { ...edge, to: number };
    });
    result.push({ accepts, edges: merge(renamed) });
  }
  return result;
}
