/**
 * Checks that the engine has given everything back (slots, pages, lanes, leases): when the server
 * stops, and with `--log-level debug` whenever the engine runs out of work. It logs what it finds.
 */
import type { Engine } from "../src/engine/engine.ts";
import type { EngineListener } from "../src/engine/metrics.ts";
import type { Log, LogLevel } from "./telemetry/log.ts";

/** What a server logs at its end if everything was given back. */
export const BALANCED = "every slot, page, lane and lease is accounted for";

export class Books {
  readonly listener: EngineListener;
  readonly #log: Log;
  #engine: Pick<Engine, "checkIntegrity"> | undefined;

  constructor(log: Log, level: LogLevel) {
    this.#log = log;
    this.listener = level === "debug" ? { idle: () => void this.#balance() } : {};
  }

  /** Sets the engine; its listener is needed before there is one. */
  attach(engine: Pick<Engine, "checkIntegrity">): void {
    this.#engine = engine;
  }

  /** The check at the end: logs the result, and returns whether everything was given back. */
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
