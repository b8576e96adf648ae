/** JSON bodies as they come in: in pieces, of any length, several at once. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { createApp } from "../../../server/http/app.ts";
import { errorOf } from "../asked.ts";
import { fakeContext } from "../fake_context.ts";

const MIB = 2 ** 20;
const headers = { "content-type": "application/json" };

/** Posts a body to `/tokenize` in pieces, the last of them when `last` resolves. */
function postPieces(
  app: ReturnType<typeof createApp>,
  pieces: readonly Uint8Array[],
  last: Promise<unknown> = Promise.resolve(),
) {
  const body = ReadableStream.from(async function* () {
    yield* pieces.slice(0, -1);
    await last;
    yield* pieces.slice(-1);
  }());
  return app.request("/tokenize", { method: "POST", headers, body });
}

function pieces(text: string, length: number): Uint8Array[] {
  const bytes = new TextEncoder().encode(text);
  const cut: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += length) cut.push(bytes.slice(at, at + length));
  return cut;
}

Deno.test("a character that is cut between two pieces is read whole", async () => {
  const app = createApp(fakeContext());
  const answer = await postPieces(app, pieces('{"prompt":"\u00e9\u4e16\u{1f642}"}', 1));
  assertEquals([answer.status, (await answer.json()).count > 0], [200, true]);
  const half = pieces('{"prompt":"\u4e16', 1).slice(0, -1);
  const refused = await errorOf(await postPieces(app, half));
  assertEquals([refused.status, refused.code], [400, "invalid_json"]);
  assertStringIncludes(refused.message, "could not be parsed");
});

Deno.test("others are served between long bodies that come at the same time", async () => {
  const app = createApp(fakeContext({ maxBody: 4 * MIB }));
  const { promise: last, resolve } = Promise.withResolvers<void>();
  const body = pieces(JSON.stringify({ prompt: "ab ".repeat(MIB / 3) }), 2 ** 16);
  let [turns, over] = [0, false];
  const seen: number[] = [];
  const answers = Array.from({ length: 5 }, async () => {
    const { status } = await postPieces(app, body, last);
    seen.push(turns);
    return status;
  });
  // all that comes before the last pieces is there
  for (let i = 0; i < 500; i++) await new Promise((go) => setTimeout(go, 0));
  const serve = () => {
    turns++;
    if (!over) setTimeout(serve, 0);
  };
  resolve();
  serve();
  const statuses = await Promise.all(answers);
  over = true;
  assertEquals(statuses, Array(5).fill(400));
  assert(new Set(seen).size === 5, `answered after ${seen.join(", ")} turns of others`);
});
