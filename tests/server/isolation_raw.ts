/**
 * HTTP requests as bytes, for paths and headers that a well-behaved client would tidy up. It reads
 * one answer and closes.
 */
export interface RawRequest {
  /** As it stands in the request line. */
  readonly path: string;
  readonly key?: string;
  /** Whole header lines. */
  readonly headers?: readonly string[];
}

export async function rawRequest(
  url: string,
  { path, key, headers = [] }: RawRequest,
): Promise<{ readonly status: number; readonly text: string }> {
  const { hostname, port } = new URL(url);
  using connection = await Deno.connect({ hostname, port: Number(port) });
  const lines = [
    `GET ${path} HTTP/1.1`,
    `host: ${hostname}`,
    "connection: close",
    ...(key === undefined ? [] : [`authorization: Bearer ${key}`]),
    ...headers,
  ];
  const writer = connection.writable.getWriter();
  await writer.write(new TextEncoder().encode(`${lines.join("\r\n")}\r\n\r\n`));
  writer.releaseLock();
  const text = await new Response(connection.readable).text();
  return { status: Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0), text };
}
