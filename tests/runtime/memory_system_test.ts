/**
 * Resident memory of a process that makes and releases everything the runtime has, thousands of
 * times. The figures come from `memory_worker.ts`; what they may be is decided here.
 */

import { LONG } from "../long.ts";
import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";

/** What `memory_worker.ts` prints: growth of resident memory in MB. */
interface Report {
  readonly bindings: number;
  readonly sessions: number;
  readonly failures: number;
  readonly devices: number;
  readonly leakedBindings: number;
  readonly leakedSessions: number;
  /** The share of a result that is right. */
  readonly unheld: number;
  readonly pages: Readonly<Record<PageFigure, number>>;
  readonly sharing: Readonly<Record<"unpacked", number>>;
  readonly lanes: Readonly<Record<"once" | "twice" | "factors", number>>;
}

type PageFigure = "untouched" | "touched" | "discarded" | "zero" | "kept" | "hugeUntouched";

const V8_FLAGS = "--expose-gc,--max-semi-space-size=1";

async function measure(): Promise<Report> {
  const worker = new URL("./memory_worker.ts", import.meta.url);
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", `--v8-flags=${V8_FLAGS}`, worker.pathname],
    // One malloc arena, or threads that come and go move the figure by tens of MB.
    env: { MALLOC_ARENA_MAX: "1" },
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

Deno.test({
  name: "resident memory stays bounded, and pages come and go as they are used",
  ignore: Deno.build.os !== "linux" || !LONG,
  fn: async (t) => {
    const report = await measure();

    await t.step("tensors, bindings and runs leave nothing behind after 20,000 cycles", () => {
      assertLess(report.bindings, 8);
      assertGreater(report.leakedBindings, 10, "the measure must see a leak");
    });

    await t.step("sessions leave nothing behind after 300 cycles", () => {
      assertLess(report.sessions, 8);
      assertGreater(3 * report.leakedSessions, 16, "the measure must see a leak");
    });

    await t.step("failed and cancelled runs leave nothing behind", () => {
      assertLess(report.failures, 8);
    });

    await t.step("devices leave nothing behind after 200 openings", () => {
      assertLess(report.devices, 8);
    });

    await t.step("a tensor's pages are resident only once touched, and can be given back", () => {
      const { untouched, touched, discarded, zero, kept, hugeUntouched } = report.pages;
      assertLess(untouched, 8);
      assertGreater(touched, 250);
      assertLess(discarded, 8);
      assertEquals([zero, kept], [0, 2]);
      assertLess(hugeUntouched, 8);
    });

    await t.step("a binding holds the memory of tensors that nobody else holds", () => {
      assertEquals(report.unheld, 1);
    });

    await t.step("two sessions read a shared weight of 64 MB where it is", () => {
      assertLess(report.sharing.unpacked, 16);
    });

    await t.step(
      "sessions map prepared weights of 64 MB, and a factor goes with its own",
      () => {
        const { once, twice, factors } = report.lanes;
        assertLess(once, 24);
        assertLess(twice - once, 24);
        // of three factors of 64 MB the last may still be garbage
        assertLess(factors, 80);
      },
    );
  },
});
