/**
 * Server-sent events from an iterator of ready-made event strings. It owns the response's stream:
 * one pull one event, so that a slow client holds its own stream back and nothing is queued here;
 * it knows nothing of what the events say.
 */

const HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  // no-transform: Deno.serve would compress, and so hold back, an event stream
  "cache-control": "no-cache, no-transform",
  "x-accel-buffering": "no",
} as const;

export const DONE_EVENT = "data: [DONE]\n\n";

export type StreamEnd = "done" | "cancelled" | "failed";

export interface EventStream {
  readonly response: Response;
  /** Resolves when the last event is out, the client is gone, or the events failed. */
  readonly ended: Promise<StreamEnd>;
}

export interface EventStreamOptions {
  readonly events: AsyncIterator<string>;
  /** The client's connection: a stream whose client left before it began is never cancelled. */
  readonly signal: AbortSignal;
  /** Called once, however the stream ends. */
  readonly close: () => void;
  /** The last event of a stream whose events failed. */
  readonly onError: (error: unknown) => string;
}

/** A streaming response. */
export function eventStream({ events, signal, close, onError }: EventStreamOptions): EventStream {
  const encoder = new TextEncoder();
  const { promise: ended, resolve } = Promise.withResolvers<StreamEnd>();
  let open = true;
  const finish = (how: StreamEnd) => {
    if (!open) return;
    open = false;
    signal.removeEventListener("abort", cancel);
    close();
    resolve(how);
  };
  const cancel = () => {
    finish("cancelled");
    // waits for an event on its way, which the cancellation just ended
    events.return?.().catch(() => {});
  };
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await events.next();
        if (!open) return; // the client left meanwhile
        if (!done) return controller.enqueue(encoder.encode(value));
        controller.close();
        finish("done");
      } catch (error) {
        fail(controller, encoder.encode(onError(error)));
        finish("failed");
      }
    },
    cancel,
  }, { highWaterMark: 0 });
  if (signal.aborted) cancel();
  else signal.addEventListener("abort", cancel);
  return { response: new Response(body, { headers: HEADERS }), ended };
}

function fail(controller: ReadableStreamDefaultController<Uint8Array>, last: Uint8Array): void {
  try {
    controller.enqueue(last);
    controller.close();
  } catch {
    // the client left while the events failed: nobody reads the last event
  }
}
