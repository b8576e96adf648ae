/**
 * The lanes there are: those the engine began with, which stay, and one for each factor set that
 * requests ask for, opened when the first one comes and closed when its memory is wanted.
 *
 * Lanes open one after the other, in order of arrival. Where the bound leaves no room, the least
 * recently used idle lane goes; where none is idle, the least recently used one takes no more
 * sequences and goes when its last one has ended. So none is taken from its sequences, and none
 * that is always in use keeps the others out. Trap: a sequence counts from the moment it names its
 * lane, long before it has a row there.
 */
import type { ServedCore } from "./request/adapter.ts";
import { Lane } from "./lane.ts";
import type { BatchModel } from "../executor/model.ts";
import { FieldError, FieldRangeError } from "../util/errors.ts";

/** A lane's model, and how to give it back. */
export interface OpenedLane {
  readonly model: BatchModel;
  /** Resolves when what only this lane used is the system's again. */
  close(): Promise<void>;
}

/** Where lanes come from. */
export interface LaneSource {
  /** Bytes a lane of the set takes, keys and values aside; undefined for a set that is not known. */
  bytes(factors: string): number | undefined;
  open(factors: string): Promise<OpenedLane>;
}

export interface LanePoolOptions {
  /** Lanes that stay, the default lane of base rows first. */
  readonly lanes: readonly Lane[];
  readonly source: LaneSource | undefined;
  /** Bound on the lanes that come and go, bytes. */
  readonly maxBytes: number;
  /** Whether a sequence that has not finished names the lane. */
  readonly inUse: (lane: Lane) => boolean;
  /** Resolves when the condition holds; it is looked at whenever a sequence ends. */
  readonly until: (condition: () => boolean) => Promise<void>;
  /** A lane takes no more sequences: those of the base that wait there go elsewhere. */
  readonly onClosing: (lane: Lane) => void;
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
  /** The opening before the next one. */
  #turn: Promise<void> = Promise.resolve();
  #bytes = 0;
  #uses = 0;
  #loads = 0;
  #evictions = 0;

  constructor(options: LanePoolOptions) {
    this.#options = options;
    this.#open = options.lanes;
    for (const lane of options.lanes) this.#lanes.set(lane.factors, lane);
  }

  /** Lanes with a model; those that are closing run until their last row has left. */
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
   * The lane of an adapter's factor set; `ready` says when it can run.
   * @throws {FieldError} for a set that is not known; {FieldRangeError} for one whose lane is larger
   *   than all memory for lanes
   */
  find(adapter: ServedCore): Lane {
    const lane = this.#lanes.get(adapter.factors) ?? this.#make(adapter);
    lane.usedAt = ++this.#uses;
    return lane;
  }

  /**
   * Opens a lane that is not open, once for all who ask; undefined where it is. A failure is not
   * remembered.
   * @throws what the source throws
   */
  ready(lane: Lane): Promise<void> | undefined {
    if (lane.isOpen) return undefined;
    const known = this.#openings.get(lane);
    if (known !== undefined) return known;
    const opening = this.#turn.then(() => this.#openNow(lane)).finally(() => {
      this.#openings.delete(lane);
      if (!lane.isOpen) this.#forget(lane);
    });
    this.#openings.set(lane, opening);
    this.#turn = opening.catch(() => {});
    return opening;
  }

  /** Resolves when no lane is being opened any more; the sequences must have ended. */
  async settle(): Promise<void> {
    await this.#turn;
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

  #make({ name, factors }: ServedCore): Lane {
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
    const { maxBytes, inUse, until } = this.#options;
    while (inUse(lane)) {
      if (this.#bytes + lane.bytes <= maxBytes) return;
      const passing = this.#passing();
      const idle = passing.find((each) => !inUse(each));
      if (idle !== undefined) await this.#close(idle);
      else {
        if (!passing.some(({ closing }) => closing)) this.#letGo(passing[0]);
        await until(() => !inUse(lane) || passing.some((each) => !inUse(each)));
      }
    }
    // at once, so that nobody else joins in what was given up
    this.#forget(lane);
    throw new DOMException(`Nobody waits for a lane of ${lane.factors} any more`, "AbortError");
  }

  /** Open lanes that come and go, the least recently used first. */
  #passing(): readonly Lane[] {
    const { lanes } = this.#options;
    return this.#open.filter((lane) => !lanes.includes(lane)).sort((a, b) => a.usedAt - b.usedAt);
  }

  /** It takes no more sequences; the next one of its factor set gets a new lane, later. */
  #letGo(lane: Lane | undefined): void {
    if (lane === undefined) return;
    lane.closing = true;
    this.#forget(lane);
    this.#options.onClosing(lane);
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
 * Whether a factor set can ever have a lane that comes and goes.
 * @throws {FieldRangeError} naming both sizes where it cannot
 */
export function checkLane(factors: string, bytes: number, maxBytes: number): void {
  if (bytes <= maxBytes) return;
  throw new FieldRangeError(
    "model",
    `Cannot open a lane for factor set ${factors}: it takes ${bytes} bytes, lane memory is ` +
      `${maxBytes}. The server needs a larger --lane-memory`,
  );
}
