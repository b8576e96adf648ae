/** A server of a device of its own: its start, its end, and its next start. */
import { assertEquals, assertMatch } from "@std/assert";
import { DeviceServer } from "../../../server/front/device_server.ts";

const SCRIPT = new URL("./device_server_child.ts", import.meta.url);

Deno.test("a device's server that ends by itself is started again, one that is stopped is not", async () => {
  const changes: boolean[] = [];
  const waiting: (() => void)[] = [];
  const server = new DeviceServer({
    ...{ script: SCRIPT, args: ["--max-batch", "2"], device: "webgpu:1", onLine: () => {} },
    onChange: (up) => {
      changes.push(up);
      for (const go of waiting.splice(0)) go();
    },
  });
  const changed = () => new Promise<void>((resolve) => waiting.push(resolve));
  assertEquals(await server.start(), true);
  const ask = async (path: string) => {
    return await (await fetch(`http://127.0.0.1:${server.port}${path}`)).text();
  };
  assertMatch(await ask("/"), /^--max-batch 2 --device webgpu:1 --host 127.0.0.1 --port \d+$/);
  await ask("/end");
  await changed();
  await changed();
  assertEquals(changes, [true, false, true]);
  await ask("/");
  await server.stop();
  assertEquals(changes.length <= 4 && changes.lastIndexOf(true) === 2, true, String(changes));
});

Deno.test("one that cannot start is told", async () => {
  const missing = new URL("./no_such_script.ts", import.meta.url);
  const lines: string[] = [];
  const server = new DeviceServer({
    ...{ script: missing, args: [], device: "cpu", onChange: () => {} },
    onLine: (line) => lines.push(line),
  });
  assertEquals(await server.start(), false);
  assertMatch(lines.join("\n"), /no_such_script/);
  assertEquals(await server.stop(), 1);
});
