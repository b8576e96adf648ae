/**
 * Carries the soak's steps out against a server, many at once, and counts what came back. An answer
 * that is not what its step expects is kept with its words; nothing is thrown for it.
 */
import { eventsOf } from "../load.ts";
import type { SoakShelf } from "./shelf.ts";
import { type Ask, CORE, requestsOf, type Step } from "./steps.ts";

/** Wrong answers that are kept with their words. */
const KEPT = 20;

/** What came back so far. */
export interface Tally {
  readonly requests: number;
  readonly byStatus: Readonly<Record<string, number>>;
  /** Answers that were not what they should be. */
  readonly wrong: number;
  readonly examples: readonly string[];
}

export interface TrafficOptions {
  readonly url: string;
  readonly shelf: SoakShelf;
}

export class Traffic {
  readonly #options: TrafficOptions;
  readonly #byStatus: Record<string, number> = {};
  readonly #examples: string[] = [];
  #requests = 0;
  #wrong = 0;

  constructor(options: TrafficOptions) {
    this.#options = options;
  }

  get tally(): Tally {
    return {
      requests: this.#requests,
      byStatus: this.#byStatus,
      wrong: this.#wrong,
      examples: this.#examples,
    };
  }

  /** Gives every tenant its core. */
  async begin(): Promise<void> {
    for (const tenant of this.#options.shelf.tenants) await this.#reload(tenant, 0);
  }

  /** Takes steps until `requests` were made in all, `clients` at once. */
  async run(steps: Iterator<Step>, requests: number, clients: number): Promise<void> {
    let planned = this.#requests;
    await Promise.all(Array.from({ length: clients }, async () => {
      while (planned < requests) {
        const { value: step, done } = steps.next();
        if (done) return;
        planned += requestsOf(step);
        await this.#take(step);
      }
    }));
  }

  async #take(step: Step): Promise<void> {
    switch (step.type) {
      case "ask":
        return await this.#ask(step);
      case "reload":
        return await this.#reload(step.tenant, step.file);
      case "visit": {
        const { tenant, set, name, asks } = step;
        const cores = this.#options.shelf.guests[set];
        await this.#ask(plain(tenant, `/v1/cores/${name}`, { cores }));
        for (const one of asks) await this.#ask(one);
        return await this.#ask(plain(tenant, `/v1/cores/${name}`, undefined), "DELETE");
      }
    }
  }

  async #reload(tenant: string, file: number): Promise<void> {
    await this.#ask(plain(undefined, "/v1/load_lora_adapter", {
      "lora_name": `${tenant}/${CORE}`,
      "lora_path": this.#options.shelf.files[file],
      "load_inplace": true,
    }));
  }

  async #ask(ask: Ask, method = ask.body === undefined ? "GET" : "POST"): Promise<void> {
    this.#requests++;
    const leave = new AbortController();
    try {
      const response = await fetch(`${this.#options.url}${ask.path}`, {
        method,
        headers: headersOf(ask),
        body: ask.body === undefined ? null : JSON.stringify(ask.body),
        signal: leave.signal,
      });
      this.#byStatus[response.status] = (this.#byStatus[response.status] ?? 0) + 1;
      const text = await read(response, ask, leave);
      const asExpected = ask.refused
        ? response.status >= 400 && response.status < 500
        : response.ok && !text.startsWith('{"error"');
      if (!asExpected) this.#keep(`${method} ${ask.path}: ${response.status} ${text}`);
    } catch (error) {
      if (!leave.signal.aborted) this.#keep(`${method} ${ask.path}: ${error}`);
    }
  }

  #keep(words: string): void {
    this.#wrong++;
    if (this.#examples.length < KEPT) this.#examples.push(words.slice(0, 300));
  }
}

function plain(tenant: string | undefined, path: string, body: unknown): Ask {
  return { type: "ask", tenant, path, body, refused: false };
}

/** Without a tenant's name the client is the administrator. */
function headersOf({ tenant }: Ask): Record<string, string> {
  const type = { "content-type": "application/json" };
  return tenant === undefined ? type : { ...type, "lembas-tenant": tenant };
}

/** The whole text, or the stream's last event; leaves where the step says so. */
async function read(response: Response, ask: Ask, leave: AbortController): Promise<string> {
  const type = response.headers.get("content-type") ?? "";
  if (response.body === null || !type.startsWith("text/event-stream")) return await response.text();
  let [last, events] = ["", 0];
  for await (const event of eventsOf(response.body)) {
    last = event;
    if (++events === ask.leavesAfter) leave.abort();
  }
  return last;
}
