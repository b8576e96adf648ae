/**
 * The thread on which sessions run: it sleeps until the main thread has written a call into shared
 * memory, calls `Run`, writes the status back and wakes the main thread.
 */
import { workerData } from "node:worker_threads";
import { CALL, type RunThreadData, STATE } from "./run_thread.ts";

const { control, call } = workerData as RunThreadData;

function pointer(index: number): Deno.PointerValue {
  return Deno.UnsafePointer.create(call[index]);
}

function serve(): void {
  for (;;) {
    Atomics.wait(control, STATE.requests, STATE.none);
    const request = Atomics.exchange(control, STATE.requests, STATE.none);
    if (request === STATE.stop) return;
    const run = new Deno.UnsafeFnPointer(pointer(CALL.function) as Deno.PointerObject<never>, {
      parameters: [
        "pointer",
        "pointer",
        "pointer",
        "pointer",
        "usize",
        "pointer",
        "usize",
        "pointer",
      ],
      result: "pointer",
    });
    const status = run.call(
      pointer(CALL.session),
      pointer(CALL.options),
      pointer(CALL.inputNames),
      pointer(CALL.inputs),
      call[CALL.inputCount],
      pointer(CALL.outputNames),
      call[CALL.outputCount],
      pointer(CALL.outputs),
    );
    call[CALL.status] = Deno.UnsafePointer.value(status);
    Atomics.add(control, STATE.completions, 1);
    Atomics.notify(control, STATE.completions);
  }
}

serve();
