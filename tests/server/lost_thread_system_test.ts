/** A server whose database thread breaks off goes on with another one, and loses nothing. */
import { assertEquals, assertMatch } from "@std/assert";
import { ServerProcess } from "./server_process.ts";

const SCRIPT = new URL("./lost_thread_child.ts", import.meta.url);

/** Tenants through the administrators' endpoint, which asks the database. */
async function tenantsOf(url: string): Promise<readonly string[]> {
  const answer = await fetch(`${url}/v1/admin/tenants`);
  const body = await answer.json();
  assertEquals(answer.status, 200, JSON.stringify(body));
  return body.data.map(({ id }: { readonly id: string }) => id).toSorted();
}

async function addTenant(url: string, id: string): Promise<void> {
  const answer = await fetch(`${url}/v1/admin/tenants`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ id }),
  });
  await answer.body?.cancel();
  assertEquals(answer.status, 200);
}

/** Asks the database until `told`: what was under way fails, and what follows finds the thread gone. */
async function askUntil(url: string, told: Promise<unknown>): Promise<void> {
  let asking = true;
  const done = told.finally(() => asking = false);
  while (asking) {
    const answer = await fetch(`${url}/v1/admin/tenants`);
    await answer.body?.cancel();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await done;
}

Deno.test("a server whose database thread breaks off serves on, says so, and keeps all", async () => {
  const data = await Deno.makeTempDir({ prefix: "lembas-lost-" });
  try {
    const args = ["--port", "0", "--open", "true"];
    const process = new ServerProcess(SCRIPT, { args, data });
    const url = await process.url();
    await addTenant(url, "acme");
    process.kill("SIGUSR2");
    await askUntil(url, process.line(/another one has taken over/));
    await addTenant(url, "globex");
    assertEquals(await tenantsOf(url), ["acme", "default", "globex"]);
    process.kill("SIGTERM");
    const { code, lines } = await process.ended();
    assertEquals(code, 0);
    // what was under way when the thread broke off may say so, too
    const warnings = lines.filter((line) => line.includes("taken over"));
    assertEquals(warnings.length, 1, lines.join("\n"));
    assertMatch(warnings[0] ?? "", / warn +Cannot use the database: its thread ended: /);
  } finally {
    await Deno.remove(data, { recursive: true });
  }
});
