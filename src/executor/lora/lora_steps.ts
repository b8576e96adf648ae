/**
 * Steps whose rows have LoRAs: the graph with their branches, compiled when the first LoRA that needs
 * it comes, and its bindings. Steps of rows without one never come here.
 */
import type { DecoderConfig } from "../../checkpoint/checkpoint.ts";
import type { ModuleName } from "../../models/hook.ts";
import type { ResidentLora } from "../../models/lora.ts";
import type { Device, Session, Tensor } from "../../runtime/device.ts";
import { Lru } from "../../util/memo.ts";
import type { Step } from "../step.ts";
import { type Adapted, adaptedBy, LoraRows, MAX_LORA_RANK, meetingInputs } from "./lora_rows.ts";
import { PIECE_RANK } from "../../models/lora.ts";

/** Bindings that are kept: each is of hundreds of views. */
const KEPT_STEPS = 32;

export interface LoraOptions {
  readonly config: DecoderConfig;
  /** Compiles the step with branches at some linears. */
  readonly compile: (modules: readonly ModuleName[]) => Promise<Session>;
}

/** A compiled step with branches, and its inputs besides the lane's, by name. */
export interface BranchedStep {
  readonly session: Session;
  readonly more: Readonly<Record<string, Tensor>>;
}

export type BindStep = (branched: BranchedStep) => Step;

interface LoraStep {
  readonly step: Step;
  readonly fill: readonly { readonly cells: Int32Array; readonly places: Int32Array }[];
}

export class LoraSteps {
  readonly #device: Device;
  readonly #options: LoraOptions;
  readonly #rows: LoraRows;
  /** By the linears that they have branches at. */
  readonly #sessions = new Map<readonly ModuleName[], Session>();
  readonly #compiling = new Map<readonly ModuleName[], Promise<void>>();
  readonly #steps = new Lru<string, LoraStep>(KEPT_STEPS, ({ step }) => step.made.dispose());
  #released = false;

  constructor(device: Device, slots: number, options: LoraOptions) {
    this.#device = device;
    this.#options = options;
    this.#rows = new LoraRows(device, options.config, slots);
  }

  /**
   * Compiles what a LoRA's rows need, once; undefined where it is there.
   * @throws {RangeError} for a rank over 64
   */
  prepare(lora: ResidentLora): Promise<void> | undefined {
    const most = MAX_LORA_RANK / PIECE_RANK;
    const wide = lora.modules.find(({ pieces }) => pieces > most);
    if (wide !== undefined) {
      throw new RangeError(
        `Cannot run LoRA ${lora.digest}: its rank at ${wide.module} is above ${MAX_LORA_RANK}`,
      );
    }
    const modules = adaptedBy(lora);
    if (this.#sessions.has(modules)) return undefined;
    const known = this.#compiling.get(modules);
    if (known !== undefined) return known;
    const compiling = this.#compile(modules).finally(() => this.#compiling.delete(modules));
    this.#compiling.set(modules, compiling);
    return compiling;
  }

  /** Gives a slot's row a LoRA, or none. */
  set(slot: number, lora: ResidentLora | undefined): void {
    this.#rows.set(slot, lora);
  }

  move(from: number, to: number): void {
    this.#rows.move(from, to);
  }

  agree(slot: number, other: number): boolean {
    return this.#rows.agree(slot, other);
  }

  /** The step for one token of each row; undefined where no row has a LoRA. */
  decode(count: number, key: string, bind: BindStep): Step | undefined {
    const adapted = this.#rows.decode(count);
    return adapted && this.#step(adapted, count, key, bind);
  }

  /**
   * The step for tokens of rows that agree with a slot's; undefined where that has no LoRA. Without a
   * key it is the caller's, to dispose.
   */
  prompt(slot: number, tokens: number, key: string | undefined, bind: BindStep): Step | undefined {
    const adapted = this.#rows.prompt(slot, tokens);
    return adapted && this.#step(adapted, tokens, key, bind);
  }

  release(): void {
    this.#released = true;
    for (const { step } of this.#steps.values()) step.made.dispose();
    this.#steps.clear();
    for (const session of this.#sessions.values()) session.release();
    this.#sessions.clear();
    this.#rows.release();
  }

  checkIntegrity(): void {
    this.#rows.checkIntegrity();
  }

  async #compile(modules: readonly ModuleName[]): Promise<void> {
    const session = await this.#options.compile(modules);
    if (this.#released) return session.release();
    this.#rows.open(modules);
    this.#sessions.set(modules, session);
  }

  #step(adapted: Adapted, tokens: number, key: string | undefined, bind: BindStep): Step {
    const { step, fill } = key === undefined
      ? this.#bind(adapted, tokens, bind)
      : this.#kept(adapted, tokens, key, bind);
    adapted.meetings.forEach((meeting, i) => meeting.fill(fill[i].cells, fill[i].places));
    return step;
  }

  #kept(adapted: Adapted, tokens: number, key: string, bind: BindStep): LoraStep {
    const { modules, meetings } = adapted;
    const shapes = meetings.map(({ first, pieces, rows, time, each }) =>
      [first, pieces, rows, time, each].join(".")
    );
    const name = [key, modules.length, ...shapes].join("/");
    const known = this.#steps.get(name);
    if (known !== undefined) return known;
    const bound = this.#bind(adapted, tokens, bind);
    this.#steps.set(name, bound);
    return bound;
  }

  #bind(adapted: Adapted, tokens: number, bind: BindStep): LoraStep {
    const session = this.#sessions.get(adapted.modules);
    if (session === undefined) throw new Error("internal: a row's LoRA was not prepared");
    using made = new DisposableStack();
    const { tensors, fill } = meetingInputs(this.#device, adapted, tokens, made);
    const step = bind({ session, more: { ...tensors, ...this.#rows.views(adapted, made) } });
    const views = made.move();
    step.made.defer(() => views.dispose());
    return { step, fill };
  }
}
