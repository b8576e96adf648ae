/**
 * Checks that the engine has given everything back (slots, pages, lanes, leases): when the server
 * stops, and with `--log-level debug` whenever the engine runs out of work. It logs what it finds.
 */
import type { Engine } from "../src/engine/engine.ts";
import type { EngineListener } from "../src/engine/metrics.ts";
import type { Log, LogLevel } from "./telemetry/log.ts";

/** What a server says at its end where they do. */
export const BALANCED = "every slot, page, lane and lease is accounted for";

export class Books {
  readonly listener: EngineListener;
  readonly #log: Log;
  #engine: Pick<Engine, "checkIntegrity"> | undefined;

  constructor(log: Log, level: LogLevel) {
    this.#log = log;
    this.listener = level === "debug" ? { idle: () => void this.#balance() } : {};
  }

  /** Says whose they are; a listener is there before its engine. */
  attach(engine: Pick<Engine, "checkIntegrity">): void {
    this.#engine = engine;
  }

  /** For the end: says that they balance, or what does not, and returns whether. */
  close(): boolean {
    const balanced = this.#balance();
    if (balanced) this.#log.info(BALANCED);
    return balanced;
  }

  #balance(): boolean {
    try {
      this.#engine?.checkIntegrity();
      return true;
    } catch (error) {
      this.#log.error(String(error));
      return false;
    }
  }
}
