/**
 * The entry point of `deno task admin`: tenants, keys, cores, usage and backups, of a running
 * server or of a store.
 */
// deno-lint-ignore-file no-console -- an entry point: its output is the console
import { runAdmin } from "./admin/command.ts";

if (import.meta.main) {
  const code = await runAdmin({
    args: Deno.args,
    env: (name) => Deno.env.get(name),
    print: (text) => console.log(text),
    complain: (text) => console.error(text),
  });
  Deno.exit(code);
}
