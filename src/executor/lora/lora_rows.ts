/**
 * The LoRAs of a lane's rows: whose pieces lie where, and how a step's tokens meet them. Each LoRA
 * lies there once, however many rows have it; it stays until another step is to run without it.
 */
import type { DecoderConfig } from "../../checkpoint/checkpoint.ts";
import { type ModuleName, MODULES, SITE_OF, type SiteName, SITES } from "../../models/hook.ts";
import { inputs } from "../../models/inputs.ts";
import { PIECE_RANK, type ResidentLora } from "../../models/lora.ts";
import type { Device, Tensor } from "../../runtime/device.ts";
import { modulesAt, SitePieces } from "./site_pieces.ts";

/** Highest rank of a LoRA. */
export const MAX_LORA_RANK = 64;

/**
 * Linears that a compiled step has branches at: each set holds those before it. A step takes the
 * first that holds its rows' LoRAs.
 */
const ADAPTED: readonly (readonly ModuleName[])[] = [
  ["q_proj", "v_proj"],
  ["q_proj", "k_proj", "v_proj", "o_proj"],
  MODULES,
];

/** The least set of linears with branches that holds a LoRA's. */
export function adaptedBy({ modules }: Pick<ResidentLora, "modules">): readonly ModuleName[] {
  const found = ADAPTED.find((set) => modules.every(({ module }) => set.includes(module)));
  return found ?? MODULES;
}

/** Where tokens and pieces of one site meet in a step (`lora` in `graph/ops.ts`). */
export interface Meeting {
  readonly site: SiteName;
  /** The pieces first … first + pieces - 1. */
  readonly first: number;
  readonly pieces: number;
  /** Products of each piece, and tokens of each product. */
  readonly rows: number;
  readonly time: number;
  /** Pieces of a token at most. */
  readonly each: number;
  /** Writes cells [pieces, rows, time] and places [tokens, each]. */
  fill(cells: Int32Array, places: Int32Array): void;
}

/** What a step needs of the LoRAs of its rows. */
export interface Adapted {
  readonly modules: readonly ModuleName[];
  readonly meetings: readonly Meeting[];
}

interface Placed {
  readonly lora: ResidentLora;
  /** Rows that have it. */
  rows: number;
  /** Where its pieces lie, in their order. */
  readonly at: Map<SiteName, number[]>;
}

export class LoraRows {
  readonly #rows: (Placed | undefined)[];
  readonly #placed = new Map<string, Placed>();
  readonly #sites: ReadonlyMap<SiteName, SitePieces>;

  constructor(device: Device, config: DecoderConfig, slots: number) {
    const room = { zeros: slots, capacity: (slots + 1) * MAX_LORA_RANK / PIECE_RANK };
    this.#rows = new Array<undefined>(slots).fill(undefined);
    this.#sites = new Map(
      SITES.map((site) => [site, new SitePieces(device, config, site, room)]),
    );
  }

  /** Makes room for LoRAs of these linears. */
  open(modules: readonly ModuleName[]): void {
    for (const module of modules) this.#siteOf(SITE_OF[module]).open(module);
  }

  set(slot: number, lora: ResidentLora | undefined): void {
    const before = this.#rows[slot];
    if (before?.lora.digest === lora?.digest) return;
    if (before !== undefined) before.rows--;
    const placed = lora && (this.#placed.get(lora.digest) ?? this.#place(lora));
    if (placed !== undefined) placed.rows++;
    this.#rows[slot] = placed;
  }

  move(from: number, to: number): void {
    this.set(to, this.#rows[from]?.lora);
  }

  /** Whether two slots' rows can have one product. */
  agree(slot: number, other: number): boolean {
    return this.#rows[slot] === this.#rows[other];
  }

  /** One token of each row in the slots 0 … count - 1; undefined where none of them has a LoRA. */
  decode(count: number): Adapted | undefined {
    const rows = this.#rows.slice(0, count);
    const modules = widest(rows);
    if (modules === undefined) return undefined;
    this.#settle();
    const meetings = sitesOf(modules).map((site) => decodeMeeting(this.#siteOf(site), rows));
    return { modules, meetings };
  }

  /** `tokens` tokens of rows that agree with a slot's; undefined where that has no LoRA. */
  prompt(slot: number, tokens: number): Adapted | undefined {
    const placed = this.#rows[slot];
    const modules = widest([placed]);
    if (placed === undefined || modules === undefined) return undefined;
    this.#settle();
    const meetings = sitesOf(modules).map((site) =>
      promptMeeting(site, this.#together(placed, site), tokens)
    );
    return { modules, meetings };
  }

  /** A step's inputs of the pieces themselves, by name. */
  views({ modules, meetings }: Adapted, made: DisposableStack): Record<string, Tensor> {
    return Object.assign(
      {},
      ...meetings.map(({ site, first, pieces }) =>
        this.#siteOf(site).views(modulesAt(site, modules), first, pieces, made)
      ),
    );
  }

  release(): void {
    for (const site of this.#sites.values()) site.release();
  }

  /** @throws {Error} `internal: …` where the rows are not those counted. */
  checkIntegrity(): void {
    for (const placed of this.#placed.values()) {
      const rows = this.#rows.filter((row) => row === placed).length;
      if (rows === placed.rows) continue;
      const { digest } = placed.lora;
      throw new Error(`internal: LoRA ${digest} has ${rows} rows, ${placed.rows} are counted`);
    }
  }

  #place(lora: ResidentLora): Placed {
    this.#settle();
    const at = new Map(
      sitesOf(lora.modules.map(({ module }) => module)).map((site) => {
        const count = Math.max(
          ...lora.modules.filter(({ module }) => SITE_OF[module] === site).map((one) => one.pieces),
        );
        return [site, this.#siteOf(site).add(lora, count)] as const;
      }),
    );
    const placed = { lora, rows: 0, at };
    this.#placed.set(lora.digest, placed);
    return placed;
  }

  /** LoRAs that no row has go, and the others move together. */
  #settle(): void {
    for (const [digest, { rows, at }] of this.#placed) {
      if (rows > 0) continue;
      for (const [site, places] of at) this.#siteOf(site).remove(places);
      this.#placed.delete(digest);
    }
    for (const site of this.#sites.values()) {
      site.compact(({ lora, index }, to) => {
        const places = this.#placed.get(lora.digest)?.at.get(site.site);
        if (places !== undefined) places[index] = to;
      });
    }
  }

  /**
   * Where a LoRA's pieces begin, moved where they do not lie one after the other; zeros where it has
   * none at the site.
   */
  #together({ lora, at }: Placed, site: SiteName): { first: number; count: number } {
    const places = at.get(site);
    if (places === undefined) return { first: this.#siteOf(site).zeros - 1, count: 1 };
    const count = places.length;
    const [first] = places;
    if (places.every((place, i) => place === first + i)) return { first, count };
    this.#siteOf(site).remove(places);
    const moved = this.#siteOf(site).add(lora, count);
    at.set(site, moved);
    return { first: moved[0], count };
  }

  #siteOf(site: SiteName): SitePieces {
    const pieces = this.#sites.get(site);
    if (pieces === undefined) throw new Error(`internal: no site ${site}`);
    return pieces;
  }
}

function sitesOf(modules: readonly ModuleName[]): readonly SiteName[] {
  return SITES.filter((site) => modules.some((module) => SITE_OF[module] === site));
}

/** The linears at which a step over some rows has branches. */
function widest(rows: readonly (Placed | undefined)[]): readonly ModuleName[] | undefined {
  let widest: readonly ModuleName[] | undefined;
  for (const row of rows) {
    const modules = row && adaptedBy(row.lora);
    if (modules !== undefined && modules.length > (widest?.length ?? 0)) widest = modules;
  }
  return widest;
}

/** Each row has a product of its own, as it has alone; what it lacks it has of zeros of its own. */
function decodeMeeting(pieces: SitePieces, rows: readonly (Placed | undefined)[]): Meeting {
  const { site } = pieces;
  const having = new Map<Placed, number>();
  let each = 1;
  for (const row of rows) {
    const places = row?.at.get(site);
    if (row === undefined || places === undefined) continue;
    having.set(row, (having.get(row) ?? 0) + 1);
    each = Math.max(each, places.length);
  }
  const products = Math.max(1, ...having.values());
  const lacking = rows.filter((row) => (row?.at.get(site)?.length ?? 0) < each).length;
  // one piece for many rows would be one product of all of them, which sums in another order
  const least = products > 1 && pieces.count === 1 ? 1 : 0;
  const zeros = Math.max(least, Math.ceil(lacking / products));
  const first = pieces.zeros - zeros;
  const fill = (cells: Int32Array, places: Int32Array) => {
    cells.fill(0);
    const seen = new Map<Placed, number>();
    let lacked = 0;
    rows.forEach((row, slot) => {
      const at = row?.at.get(site) ?? [];
      const product = row === undefined ? 0 : seen.get(row) ?? 0;
      if (row !== undefined) seen.set(row, product + 1);
      const own = at.map((place) => (place - first) * products + product);
      if (own.length < each) own.push(lacked++);
      for (const cell of own) cells[cell] = slot;
      for (let i = 0; i < each; i++) places[slot * each + i] = own[Math.min(i, own.length - 1)];
    });
  };
  return { site, first, pieces: zeros + pieces.count, rows: products, time: 1, each, fill };
}

/** All tokens in one product with each piece. */
function promptMeeting(
  site: SiteName,
  { first, count }: { readonly first: number; readonly count: number },
  tokens: number,
): Meeting {
  const fill = (cells: Int32Array, places: Int32Array) => {
    for (let i = 0; i < cells.length; i++) cells[i] = i % tokens;
    for (let i = 0; i < places.length; i++) {
      places[i] = i % count * tokens + Math.floor(i / count);
    }
  };
  return { site, first, pieces: count, rows: 1, time: tokens, each: count, fill };
}

/** Where a step's tokens and pieces meet, as inputs by name, and the arrays that they read. */
export function meetingInputs(
  device: Device,
  { meetings }: Adapted,
  tokens: number,
  made: DisposableStack,
): {
  readonly tensors: Record<string, Tensor>;
  readonly fill: readonly { readonly cells: Int32Array; readonly places: Int32Array }[];
} {
  const tensors: Record<string, Tensor> = {};
  const fill = meetings.map(({ site, pieces, rows, time, each }) => {
    const cells = new Int32Array(pieces * rows * time);
    const places = new Int32Array(tokens * each);
    tensors[inputs.loraCells(site)] = made.use(
      device.tensor("int32", [pieces, rows, time], cells),
    );
    tensors[inputs.loraPlaces(site)] = made.use(device.tensor("int32", [tokens, each], places));
    return { cells, places };
  });
  return { tensors, fill };
}
