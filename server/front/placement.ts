/**
 * Which of several servers takes a request, as a pure policy: the one that had the same beginning last,
 * whose keys and values may still be there, unless it has many more requests than another; else the one
 * with the fewest.
 */
import { Lru } from "../../src/util/memo.ts";

/** Requests by which a server may be ahead of the least loaded one and still be preferred. */
const AHEAD = 8;
/** Beginnings that are remembered. */
const KEPT = 10_000;

export class Placement {
  readonly #loads: number[];
  readonly #up: boolean[];
  /** How often each went up: what it held before is gone. */
  readonly #lives: number[];
  readonly #held = new Lru<string, { readonly server: number; readonly life: number }>(KEPT);

  /** None of them is up at first. */
  constructor(servers: number) {
    this.#loads = new Array<number>(servers).fill(0);
    this.#up = new Array<boolean>(servers).fill(false);
    this.#lives = new Array<number>(servers).fill(0);
  }

  /** A server goes up, or down with what it remembered. */
  set(server: number, up: boolean): void {
    this.#up[server] = up;
    if (up) this.#lives[server]++;
  }

  /**
   * Counts a request in, until the function that comes with it is called; undefined where no server is
   * up.
   * @param beginning what requests with the same beginning have in common; undefined = nothing
   */
  take(beginning: string | undefined): { readonly server: number; end(): void } | undefined {
    const server = this.#choose(beginning);
    if (server === undefined) return undefined;
    if (beginning !== undefined) {
      this.#held.set(beginning, { server, life: this.#lives[server] });
    }
    this.#loads[server]++;
    let open = true;
    return {
      server,
      end: () => {
        if (open) this.#loads[server]--;
        open = false;
      },
    };
  }

  #choose(beginning: string | undefined): number | undefined {
    const up = this.#up.flatMap((up, server) => up ? [server] : []);
    const [least] = up.toSorted((a, b) => this.#loads[a] - this.#loads[b]);
    if (least === undefined || beginning === undefined) return least;
    const held = this.#held.get(beginning);
    if (held === undefined || !this.#up[held.server]) return least;
    const { server, life } = held;
    const near = this.#loads[server] <= this.#loads[least] + AHEAD;
    return near && life === this.#lives[server] ? server : least;
  }
}
