/**
 * The default number of a session's threads: the machine's physical cores, as far as this process
 * may use them.
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
  const pairs = cpuinfo.split("\n\n").flatMap((block) => {
    const core = /^core id\s*:\s*(\d+)/m.exec(block)?.[1];
    const socket = /^physical id\s*:\s*(\d+)/m.exec(block)?.[1];
    return core === undefined ? [] : [`${socket ?? 0}/${core}`];
  });
  return new Set(pairs).size;
}

function readText(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}
