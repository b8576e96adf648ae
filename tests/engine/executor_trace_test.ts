/** The engine on the real executor, on the CPU: seeded traces (`executor_trace.ts`). */
import { runTrace, type Trace } from "./executor_trace.ts";
import { LONG } from "../long.ts";

const TRACES: readonly Trace[] = [
  { seed: 1, requests: 260, longest: 80, kvTokens: 320, steps: 2000 },
  { seed: 2, requests: 300, longest: 40, kvTokens: 4000, steps: 700 },
];

/** The first in short, where there is less time. */
const SHORT: Trace = { ...TRACES[0], requests: 70, steps: 500 };

for (const trace of LONG ? TRACES : [SHORT]) {
  Deno.test(`trace ${trace.seed} on the real executor: invariants after each run, texts as alone`, async () => {
    await runTrace(trace);
  });
}
