/**
 * A pattern's syntax tree as Thompson's nondeterministic machine; its states are sets of nodes,
 * which makes it deterministic. Trap: `^` and `$` are edges that can be taken only at one end of
 * the string.
 */
import { CHARACTERS, type Machine, type Range } from "./automaton.ts";

/** A node of the pattern's syntax tree. */
export type Piece =
  | { readonly type: "set"; readonly ranges: readonly Range[] }
  | { readonly type: "start" | "end" }
  | { readonly type: "sequence" | "choice"; readonly pieces: readonly Piece[] }
  | {
    readonly type: "repeat";
    readonly piece: Piece;
    readonly least: number;
    /** Undefined = without limit. */
    readonly most: number | undefined;
  };

/** Most nodes of the machine; repetitions multiply them. */
const MOST_NODES = 20_000;

type Way =
  | { readonly by: "nothing" | "start" | "end"; readonly to: number }
  | { readonly by: readonly Range[]; readonly to: number };

/** The strings in which a pattern is found. */
export class PatternMachine implements Machine<readonly number[]> {
  readonly #ways: Way[][] = [];
  readonly #final: number;
  readonly start: readonly number[];

  constructor(pattern: Piece) {
    const any: Piece = { type: "set", ranges: CHARACTERS };
    const anything: Piece = { type: "repeat", piece: any, least: 0, most: undefined };
    const from = this.#node();
    this.#final = this.#add({ type: "sequence", pieces: [anything, pattern, anything] }, from);
    this.start = this.#closure([from], ["nothing", "start"]);
  }

  key(nodes: readonly number[]): string {
    return nodes === this.start ? "start" : nodes.join();
  }

  accepts(nodes: readonly number[]): boolean {
    // at the end of an empty string both anchors hold: the start's set has passed `^` already
    const ways = nodes === this.start ? ["nothing", "start", "end"] : ["nothing", "end"];
    return this.#closure(nodes, ways).includes(this.#final);
  }

  edges(nodes: readonly number[]): { first: number; last: number; to: readonly number[] }[] {
    const ways = nodes.flatMap((node) => this.#ways[node] ?? []).flatMap(({ by, to }) =>
      typeof by === "string" ? [] : by.map(([first, last]) => ({ first, last, to }))
    );
    const cuts = [...new Set(ways.flatMap(({ first, last }) => [first, last + 1]))];
    cuts.sort((a, b) => a - b);
    const closures = new Map<string, readonly number[]>();
    return cuts.slice(0, -1).flatMap((first, index) => {
      const last = (cuts[index + 1] ?? 0) - 1;
      const to = [
        ...new Set(
          ways.filter((way) => way.first <= first && last <= way.last).map(({ to }) => to),
        ),
      ];
      if (to.length === 0) return [];
      const closed = closures.get(to.join()) ?? this.#closure(to, ["nothing"]);
      closures.set(to.join(), closed);
      return [{ first, last, to: closed }];
    });
  }

  #node(): number {
    if (this.#ways.length >= MOST_NODES) {
      throw new TypeError(`repeats too much: more than ${MOST_NODES} pieces`);
    }
    return this.#ways.push([]) - 1;
  }

  #link(from: number, way: Way): void {
    this.#ways[from]?.push(way);
  }

  /** Adds a piece behind a node. @returns the node where it ends */
  #add(piece: Piece, from: number): number {
    switch (piece.type) {
      case "sequence":
        return piece.pieces.reduce((at, each) => this.#add(each, at), from);
      case "choice": {
        const to = this.#node();
        for (const each of piece.pieces) {
          const branch = this.#node();
          this.#link(from, { by: "nothing", to: branch });
          this.#link(this.#add(each, branch), { by: "nothing", to });
        }
        return to;
      }
      case "repeat":
        return this.#repeat(piece, from);
      default: {
        const to = this.#node();
        this.#link(from, { by: piece.type === "set" ? piece.ranges : piece.type, to });
        return to;
      }
    }
  }

  #repeat({ piece, least, most }: Piece & { readonly type: "repeat" }, from: number): number {
    let at = from;
    for (let count = 0; count < least; count++) at = this.#add(piece, at);
    const to = this.#node();
    if (most === undefined) {
      const loop = this.#node();
      this.#link(at, { by: "nothing", to: loop });
      this.#link(this.#add(piece, loop), { by: "nothing", to: loop });
      this.#link(loop, { by: "nothing", to });
      return to;
    }
    for (let count = least; count < most; count++) {
      this.#link(at, { by: "nothing", to });
      at = this.#add(piece, at);
    }
    this.#link(at, { by: "nothing", to });
    return to;
  }

  /** The nodes that can be reached without a character, sorted. */
  #closure(nodes: readonly number[], open: readonly string[]): readonly number[] {
    const seen = new Set<number>();
    const stack = [...nodes];
    for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
      if (seen.has(node)) continue;
      seen.add(node);
      for (const { by, to } of this.#ways[node] ?? []) {
        if (typeof by === "string" && open.includes(by)) stack.push(to);
      }
    }
    return [...seen].sort((a, b) => a - b);
  }
}
