/**
 * The engine's lanes: those it began with, which stay, and one for each factor set that requests
 * ask for, opened with the first such request and closed when its memory is wanted.
 *
 * Lanes open one after the other, in order of arrival. Where `maxBytes` leaves no room, the least
 * recently used idle lane is closed. Where none is idle, the least recently used one takes no more
 * sequences and is closed when its last one has ended: no sequence loses its lane, and no lane that
 * is always in use keeps the others out. Trap: a lane is in use as soon as a sequence names it,
 * long before that has a row there.
 */
import type { BatchModel } from "../executor/model.ts";
import { FieldError, FieldRangeError } from "../util/errors.ts";
import type { ServedCore } from "./request/request.ts";
import { Lane, type Sequence } from "./sequence.ts";

/** A lane's model, and how to give it back. */
export interface OpenedLane {
  readonly model: BatchModel;
  /** Releases what only this lane used; resolves when its memory is the system's again. */
  close(): Promise<void>;
}

/** Where models for lanes come from. */
export interface LaneSource {
  /**
   * Bytes a lane of the set takes, keys and values aside; undefined for a set that is not known.
   */
  bytes(factors: string): number | undefined;
  open(factors: string): Promise<OpenedLane>;
}

export interface LanePoolOptions {
  /** Lanes that stay, the default lane of base rows first. */
  readonly lanes: readonly Lane[];
  readonly source: LaneSource | undefined;
  /** Most bytes of the lanes that come and go, keys and values aside. */
  readonly maxBytes: number;
  /** The sequences that have not finished. */
  readonly live: ReadonlySet<Sequence>;
  /** Resolves when the condition holds; it is looked at whenever a sequence ends. */
  readonly until: (condition: () => boolean) => Promise<void>;
}

/** Gauges of this moment and counters since the engine began. */
export interface LaneStats {
  readonly loaded: number;
  /** Of the lanes loaded, keys and values aside. */
  readonly bytes: number;
  /** Lanes opened since the engine began. */
  readonly loads: number;
  /** Lanes closed to make room. */
  readonly evictions: number;
}

export class LanePool {
  readonly #options: LanePoolOptions;
  /** Lanes that take sequences, open or not, by factor set. */
  readonly #lanes = new Map<string | undefined, Lane>();
  readonly #openings = new Map<Lane, Promise<void>>();
  readonly #closers = new Map<Lane, () => Promise<void>>();
  #open: readonly Lane[];
  /** Resolves when no opening is under way. */
  #lastOpening: Promise<void> = Promise.resolve();
  #bytes = 0;
  #uses = 0;
  #loads = 0;
  #evictions = 0;

  constructor(options: LanePoolOptions) {
    this.#options = options;
    this.#open = options.lanes;
    for (const lane of options.lanes) this.#lanes.set(lane.factors, lane);
  }

  /** Lanes with a model; one that is closing runs until its last row has left. */
  get open(): readonly Lane[] {
    return this.#open;
  }

  /** The default lane. */
  get first(): Lane {
    const [first] = this.#options.lanes;
    if (first === undefined) throw new RangeError("internal: an engine without a lane");
    return first;
  }

  /**
   * A lane for a sequence of the base: the fullest with a free slot, so that it shares their batch.
   */
  forBase(): Lane {
    let best: Lane | undefined;
    for (const lane of this.#open) {
      if (lane.closing) continue;
      best ??= lane;
      if (lane.freeSlots > 0 && lane.rows.length > best.rows.length) best = lane;
    }
    if (best === undefined) throw new Error("internal: no lane is open");
    return best;
  }

  /**
   * The lane of an adapter's factor set, of a LoRA the default lane; `ready` says when it can run.
   * @throws {FieldError} for a set that is not known
   * @throws {FieldRangeError} for a set whose lane is larger than all memory for lanes
   */
  forAdapter(adapter: ServedCore): Lane {
    const { name, factors } = adapter;
    const lane = factors === undefined
      ? this.first
      : this.#lanes.get(factors) ?? this.#make(name, factors);
    lane.usedAt = ++this.#uses;
    return lane;
  }

  /**
   * Opens a lane, once for all who ask; undefined where it is open. After a failure the next one to
   * ask tries again.
   * @throws what the source throws
   */
  ready(lane: Lane): Promise<void> | undefined {
    if (lane.isOpen) return undefined;
    const known = this.#openings.get(lane);
    if (known !== undefined) return known;
    const opening = this.#lastOpening.then(() => this.#openNow(lane)).finally(() => {
      this.#openings.delete(lane);
      if (!lane.isOpen) this.#forget(lane);
    });
    this.#openings.set(lane, opening);
    this.#lastOpening = opening.catch(() => {});
    return opening;
  }

  /** Resolves when no lane is being opened any more; the sequences must have ended. */
  async settle(): Promise<void> {
    await this.#lastOpening;
  }

  stats(): LaneStats {
    const staying = this.#options.lanes.reduce((sum, { bytes }) => sum + bytes, 0);
    return {
      loaded: this.#open.length,
      bytes: staying + this.#bytes,
      loads: this.#loads,
      evictions: this.#evictions,
    };
  }

  /** @throws {Error} `internal: …` where the books do not balance. */
  checkIntegrity(): void {
    const { maxBytes } = this.#options;
    const opening = [...this.#openings.keys()].filter(({ isOpen }) => !isOpen);
    const going = this.#passing();
    const held = going.reduce((sum, { bytes }) => sum + bytes, 0);
    const most = Math.max(0, ...opening.map(({ bytes }) => bytes));
    const faults = {
      "an open lane has no model": this.#open.some(({ isOpen }) => !isOpen),
      "a closed lane has rows": opening.some(({ rows }) => rows.length > 0),
      "a closing lane takes sequences": [...this.#lanes.values()].some(({ closing }) => closing),
      "the bytes booked are not the lanes'": this.#bytes < held || this.#bytes > held + most,
      "the bound is broken": this.#bytes > maxBytes,
      "a lane has nothing to close it": going.some((lane) => !this.#closers.has(lane)),
    };
    const fault = Object.entries(faults).find(([, broken]) => broken);
    if (fault === undefined) return;
    throw new Error(`internal: lanes: ${fault[0]}; ${JSON.stringify(this.stats())}`);
  }

  #make(name: string, factors: string): Lane {
    const bytes = this.#options.source?.bytes(factors);
    if (bytes === undefined) {
      const loaded = this.#open.flatMap((lane) => lane.factors ?? []);
      throw new FieldError(
        "model",
        `Cannot run adapter ${name}: its factor set is ${factors}, which is not known; ` +
          `loaded are ${loaded.length === 0 ? "none" : loaded.join(", ")}`,
      );
    }
    checkLane(factors, bytes, this.#options.maxBytes);
    const lane = new Lane(factors, { slots: this.first.model.maxBatch, bytes });
    this.#lanes.set(factors, lane);
    return lane;
  }

  async #openNow(lane: Lane): Promise<void> {
    const { factors, bytes } = lane;
    const { source } = this.#options;
    if (source === undefined || factors === undefined) throw new Error("internal: no lane to open");
    await this.#makeRoom(lane);
    this.#bytes += bytes;
    try {
      const { model, close } = await source.open(factors);
      lane.open(model);
      this.#closers.set(lane, close);
    } catch (error) {
      this.#bytes -= bytes;
      throw error;
    }
    this.#open = [...this.#open, lane];
    this.#loads++;
  }

  /** Closes lanes until another one fits, and waits for them where it must. */
  async #makeRoom(lane: Lane): Promise<void> {
    const { maxBytes, until } = this.#options;
    while (this.#inUse(lane)) {
      if (this.#bytes + lane.bytes <= maxBytes) return;
      const passing = this.#passing();
      const idle = passing.find((each) => !this.#inUse(each));
      if (idle !== undefined) await this.#close(idle);
      else {
        if (!passing.some(({ closing }) => closing)) this.#letGo(passing[0]);
        await until(() => !this.#inUse(lane) || passing.some((each) => !this.#inUse(each)));
      }
    }
    // without an await in between, so that nobody asks for the lane that is given up
    this.#forget(lane);
    throw new DOMException(`Nobody waits for a lane of ${lane.factors} any more`, "AbortError");
  }

  #inUse(lane: Lane): boolean {
    for (const sequence of this.#options.live) if (sequence.lane === lane) return true;
    return false;
  }

  /** Open lanes that come and go, the least recently used first. */
  #passing(): readonly Lane[] {
    const { lanes } = this.#options;
    return this.#open.filter((lane) => !lanes.includes(lane)).sort((a, b) => a.usedAt - b.usedAt);
  }

  /**
   * The lane takes no more sequences: those of the base without a row there go to another lane, and
   * the next one of its factor set gets a new lane, later.
   */
  #letGo(lane: Lane | undefined): void {
    if (lane === undefined) return;
    lane.closing = true;
    this.#forget(lane);
    for (const sequence of this.#options.live) {
      const stays = sequence.lane !== lane || sequence.slot !== undefined;
      if (!stays && sequence.request.adapter === undefined) sequence.reroute(this.forBase());
    }
  }

  async #close(lane: Lane): Promise<void> {
    this.#letGo(lane);
    const close = this.#closers.get(lane);
    this.#closers.delete(lane);
    this.#open = this.#open.filter((each) => each !== lane);
    this.#bytes -= lane.bytes;
    this.#evictions++;
    await close?.();
  }

  #forget(lane: Lane): void {
    if (this.#lanes.get(lane.factors) === lane) this.#lanes.delete(lane.factors);
  }
}

/**
 * Checks that a lane for a factor set fits into the memory for lanes.
 * @throws {FieldRangeError} naming both sizes where it does not
 */
export function checkLane(factors: string, bytes: number, maxBytes: number): void {
  if (bytes <= maxBytes) return;
  throw new FieldRangeError(
    "model",
    `Cannot open a lane for factor set ${factors}: it takes ${bytes} bytes, lane memory is ` +
      `${maxBytes}. The server needs a larger --lane-memory`,
  );
}
