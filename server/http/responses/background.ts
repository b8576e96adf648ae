// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * Responses that run with nobody waiting (`background`): kept from their beginning, with a date up to
 * which this process vouches for them, so that one whose process died has failed for whoever asks. What
 * the store says holds: one that was cancelled or deleted elsewhere ends here at the next vouching.
 */
import type { TenantData } from "../../../adapters/store/store.ts";
import { type AppContext, type Asker, askerOf, type ServerContext } from "../../context.ts";
import { ApiError, toApiError } from "../../errors.ts";
import { startChat } from "../../generate/chat_run.ts";
import { logFailure } from "../../telemetry/log.ts";
import { failedResponse } from "./answer.ts";
import type { ResponseBody } from "./answer_schema.ts";
import { responseError } from "./errors.ts";
import { EventLog } from "./event_log.ts";
import type { KeptResponses } from "./stored/kept.ts";
import { ResponseEvents } from "./run.ts";
import type { AskedResponse } from "./start.ts";

/** Milliseconds for which a process vouches, and between two vouchings. */
const VOUCHED_MS = 30_000;
const VOUCH_MS = 5_000;
/** Ended ones whose events can still be heard as they were. */
const MOST_ENDED = 16;

interface Running {
  readonly log: EventLog;
  readonly responses: Pick<TenantData["responses"], "vouch">;
  readonly abort: AbortController;
}

/** Those of one server. */
export class BackgroundResponses {
  readonly #context: ServerContext;
  readonly #running = new Map<string, Running>();
  /** Of the newest that have ended. */
  readonly #ended = new Map<string, EventLog>();
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(context: ServerContext) {
    this.#context = context;
  }

  /**
   * Begins a response; resolves when it is kept and has been let in.
   * @throws {ApiError} for what cannot be, and 429 for the tenant's limits
   */
  async start(c: AppContext, kept: KeptResponses, asked: AskedResponse): Promise<EventLog> {
    const running = { log: new EventLog(), responses: kept.rows, abort: new AbortController() };
    const { promise: let_in, resolve: admitted } = Promise.withResolvers<void>();
    const asker: Asker = {
      ...{ ...askerOf(c), trace: undefined, signal: running.abort.signal },
      admitted,
    };
    const done = this.#context.lifecycle.begin();
    const chat = startChat(this.#context, asker, asked.request, asked.begun.id);
    try {
      await Promise.race([let_in, chat]);
      await kept.begin(asked, Date.now() + VOUCHED_MS);
    } catch (error) {
      running.abort.abort();
      // one that was let in, and could not be kept
      chat.then(({ run }) => run.close(), () => {});
      done();
      throw error;
    }
    this.#running.set(asked.begun.id, running);
    this.#timer ??= setInterval(() => void this.#vouch(), VOUCH_MS);
    void this.#run({ asked, kept, chat, requestId: asker.requestId, running }).finally(done);
    return running.log;
  }

  /** The events of one that runs here, or did a while ago; whose it is its store says. */
  log(id: string): EventLog | undefined {
    return this.#running.get(id)?.log ?? this.#ended.get(id);
  }

  /** Ends the work for one that the store has ended. */
  stop(id: string): void {
    this.#running.get(id)?.abort.abort();
  }

  async #run({ asked, kept, chat, requestId, running }: {
    readonly asked: AskedResponse;
    readonly kept: KeptResponses;
    readonly chat: ReturnType<typeof startChat>;
    readonly requestId: string;
    readonly running: Running;
  }): Promise<void> {
    const { begun } = asked;
    const { log } = running;
    const events = new ResponseEvents({
      ...asked.running(chat),
      progress: (response) => kept.tell(response),
      keep: async (response) => {
        if (!await kept.end(response, asked)) throw new GoneFromStore();
      },
    });
    try {
      for await (const text of events) log.add(text);
    } catch (error) {
      const failure = toApiError(error, requestId);
      const cancelled = running.abort.signal.aborted || error instanceof GoneFromStore;
      if (!cancelled) logFailure(this.#context.log, requestId, failure);
      const response = failedResponse(begun, responseError(failure));
      log.add(events.failed(cancelled ? cancelledResponse(begun) : response));
      if (!cancelled) await this.#fail(kept, response);
    } finally {
      chat.then(({ run }) => run.close(), () => {});
      this.#settle(begun.id, log);
    }
  }

  async #fail(kept: KeptResponses, response: ResponseBody): Promise<void> {
    try {
      await kept.end(response);
    } catch (error) {
      // nobody vouches for it any more, so it has failed without this
      this.#context.log.warning("the end of a response in the background cannot be kept", {
        response: response.id,
        error: String(error),
      });
    }
  }

  #settle(id: string, log: EventLog): void {
    log.close();
    this.#running.delete(id);
    this.#ended.set(id, log);
    const [oldest] = this.#ended.keys();
    if (this.#ended.size > MOST_ENDED && oldest !== undefined) this.#ended.delete(oldest);
    if (this.#running.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  async #vouch(): Promise<void> {
    try {
      for (const [id, { responses, abort }] of this.#running) {
        const still = await responses.vouch([id], Date.now() + VOUCHED_MS);
        if (!still.has(id)) abort.abort();
      }
    } catch (error) {
      this.#context.log.warning("responses in the background cannot be vouched for", {
        error: String(error),
      });
    }
  }
}

/** The store knows no such response that runs: it was cancelled or deleted. */
class GoneFromStore extends ApiError {
  constructor() {
    super(404, "The response was cancelled or deleted.", { code: "response_cancelled" });
  }
}

export function cancelledResponse(begun: ResponseBody): ResponseBody {
  return { ...begun, status: "cancelled", output: [] };
}
