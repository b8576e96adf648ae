/** The HTTP listener over raw sockets: lost clients, backpressure, bodies over the limit. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { AddressInfo } from "node:net";
import { createApp } from "../../server/http/app.ts";
import { createFetchServer, type FetchHandler } from "../../server/serve.ts";
import { fakeContext } from "./fake_context.ts";

async function withServer(
  fetch: FetchHandler,
  body: (port: number) => Promise<void>,
): Promise<void> {
  const server = createFetchServer(fetch);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  try {
    await body((server.address() as AddressInfo).port);
  } finally {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function connect(port: number, ...parts: readonly string[]): Promise<Deno.TcpConn> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  connection.setNoDelay(true);
  for (const part of parts) {
    await connection.write(new TextEncoder().encode(part));
    await pause(10);
  }
  return connection;
}

const HEAD = "POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\n";

Deno.test("a lost client aborts the signal before there is a response, however its request came", async () => {
  for (const parts of [[`${HEAD}abcd`], [HEAD, "abcd"], [HEAD, "ab", "cd"]]) {
    const aborted = Promise.withResolvers<void>();
    const read = Promise.withResolvers<void>();
    const handler: FetchHandler = async (request) => {
      assertEquals(await request.text(), "abcd");
      request.signal.addEventListener("abort", () => aborted.resolve());
      read.resolve();
      await aborted.promise;
      return new Response("for nobody");
    };
    await withServer(handler, async (port) => {
      const connection = await connect(port, ...parts);
      await read.promise;
      connection.close();
      await aborted.promise;
    });
  }
});

Deno.test("a lost client cancels the body of a stream that is silent", async () => {
  const cancelled = Promise.withResolvers<void>();
  const handler: FetchHandler = async (request) => {
    await request.text();
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new TextEncoder().encode("data: 1\n\n")),
      cancel: () => cancelled.resolve(),
    });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  };
  await withServer(handler, async (port) => {
    const connection = await connect(port, HEAD, "abcd");
    await connection.read(new Uint8Array(1000));
    connection.close();
    await cancelled.promise;
  });
});

Deno.test("a delivered response does not abort its signal", async () => {
  const signals: AbortSignal[] = [];
  const handler: FetchHandler = (request) => {
    signals.push(request.signal);
    return new Response("done");
  };
  await withServer(handler, async (port) => {
    for (let i = 0; i < 3; i++) {
      assertEquals(await (await fetch(`http://127.0.0.1:${port}/`)).text(), "done");
    }
  });
  assertEquals(signals.map(({ aborted }) => aborted), [false, false, false]);
});

Deno.test("a stream is read no further than its client does", async () => {
  let pulled = 0;
  const chunk = new Uint8Array(65_536);
  const handler: FetchHandler = () => {
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        pulled++;
        controller.enqueue(chunk);
      },
    }, { highWaterMark: 0 });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  };
  await withServer(handler, async (port) => {
    const connection = await connect(port, "GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    let before = -1;
    while (pulled !== before) {
      before = pulled;
      await pause(50);
    }
    assert(pulled < 1000, `${pulled} chunks of 64 KiB were pulled for a client that reads nothing`);
    connection.close();
  });
});

Deno.test("a body over the limit is answered 413 while it still comes, and the connection closed", async () => {
  const app = createApp(fakeContext({ maxBody: 1000 }));
  await withServer(app.fetch, async (port) => {
    const connection = await connect(
      port,
      "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n" +
        "transfer-encoding: chunked\r\n\r\n",
      `7d0\r\n${" ".repeat(2000)}\r\n`,
    );
    let text = "";
    const decoder = new TextDecoder();
    for await (const bytes of connection.readable) text += decoder.decode(bytes, { stream: true });
    assertMatch(text, /^HTTP\/1\.1 413 /);
    assertStringIncludes(text, "larger than the limit of 1000 bytes");
  });
});

Deno.test("odd request targets are paths, not hosts", async () => {
  const paths: string[] = [];
  const handler: FetchHandler = (request) => {
    const { host, pathname } = new URL(request.url);
    paths.push(`${host}${pathname}`);
    return new Response("x");
  };
  await withServer(handler, async (port) => {
    for (const target of ["//evil.example/x", "/a%2Fb", "/?q=1"]) {
      const connection = await connect(port, `GET ${target} HTTP/1.1\r\nhost: h\r\n\r\n`);
      await connection.read(new Uint8Array(1000));
      connection.close();
    }
  });
  assertEquals(paths, ["h//evil.example/x", "h/a%2Fb", "h/"]);
});

Deno.test("a request that cannot be one is a 400 in OpenAI's shape, and the handler is not asked", async () => {
  const handler: FetchHandler = () => {
    throw new Error("it must not be asked");
  };
  await withServer(handler, async (port) => {
    for (
      const head of ["GET / HTTP/1.1\r\nhost: a b\r\n\r\n", "GET /a\\b HTTP/1.1\r\nhost: h\r\n\r\n"]
    ) {
      const connection = await connect(port, head);
      const bytes = new Uint8Array(1000);
      const text = new TextDecoder().decode(bytes.subarray(0, await connection.read(bytes) ?? 0));
      assertMatch(text, /^HTTP\/1\.1 400 /);
      assertStringIncludes(text, '"code":"invalid_request"');
      connection.close();
    }
  });
});
