/**
 * A process that resolves one model and prints the path or the error: tests run it to have pip's
 * and the PATH's environment of their own.
 */

import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";

if (import.meta.main) {
  const [spec, cache = ""] = Deno.args;
  const print = (text: string): unknown => Deno.stdout.writeSync(new TextEncoder().encode(text));
  try {
    print(await resolveModel(spec === "" ? undefined : spec, { cache }));
  } catch (error) {
    print(`${error}`);
    Deno.exit(1);
  }
}
