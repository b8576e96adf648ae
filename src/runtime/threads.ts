/**
 * How many threads a session uses when nobody says, and on which processors: the machine's physical
 * cores, within what this process may use. Knows the operating system's files, nothing of sessions.
 */

/** Physical cores that this process may use; at least 1. */
export function physicalCores(): number {
  const usable = Math.max(1, navigator.hardwareConcurrency);
  if (Deno.build.os !== "linux") return usable;
  const cores = coresOf(readText("/proc/cpuinfo"));
  return cores === 0 ? usable : Math.min(cores, usable);
}

/** Distinct (package, core) pairs in the text of `/proc/cpuinfo`; 0 where it names none. */
export function coresOf(cpuinfo: string): number {
  return new Set(processorsOf(cpuinfo).map(({ core }) => core)).size;
}

/**
 * The processors for a session's threads beyond the calling one, as ONNX Runtime spells them (counted
 * from 1, `2;3;4`), where the threads fill the machine; undefined where they do not, or where the
 * system does not say. A worker thread that the system may move is at times woken on its caller's
 * core: the two then take turns, at half the speed.
 */
export function workerProcessors(threads: number): string | undefined {
  if (Deno.build.os !== "linux" || threads < 2) return undefined;
  return placeWorkers(threads, readText("/proc/cpuinfo"), readText("/proc/self/status"));
}

/** `workerProcessors` on the texts of `/proc/cpuinfo` and `/proc/self/status`. */
export function placeWorkers(
  threads: number,
  cpuinfo: string,
  status: string,
): string | undefined {
  const allowed = allowedProcessors(status);
  const firsts = new Map<string, number>();
  for (const { id, core } of processorsOf(cpuinfo)) {
    if (allowed.has(id) && !firsts.has(core)) firsts.set(core, id);
  }
  if (firsts.size !== threads) return undefined;
  return [...firsts.values()].slice(1).map((id) => id + 1).join(";");
}

interface Processor {
  readonly id: number;
  /** Package and core. */
  readonly core: string;
}

function processorsOf(cpuinfo: string): Processor[] {
  return cpuinfo.split("\n\n").flatMap((block) => {
    const field = (name: string) => new RegExp(`^${name}\\s*:\\s*(\\d+)`, "m").exec(block)?.[1];
    const core = field("core id");
    if (core === undefined) return [];
    return [{ id: Number(field("processor")), core: `${field("physical id") ?? 0}/${core}` }];
  });
}

/** `Cpus_allowed_list:	0-3,6` as numbers. */
function allowedProcessors(status: string): ReadonlySet<number> {
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? "";
  return new Set(
    list.split(",").flatMap((range) => {
      const [first, last = first] = range.split("-").map(Number);
      return Number.isNaN(first)
        ? []
        : Array.from({ length: last - first + 1 }, (_, i) => first + i);
    }),
  );
}

function readText(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}
