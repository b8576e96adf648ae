/** kill -9 while a server answers: whatever a client saw the end of is in the store, once. */
import { assert, assertEquals } from "@std/assert";
import { openStore } from "../../../adapters/store/open_store.ts";
import { keepingLog, newDataDirectory } from "../../adapters/store/test_store.ts";
import { ServerProcess } from "../server_process.ts";
import { query } from "../../adapters/store/cases.ts";

const CHILD = new URL("../tuning_child.ts", import.meta.url);
const CLIENTS = 6;
/** Answers after which the server is killed. */
const ENOUGH = 25;

interface Answer {
  readonly id: string;
  readonly tokens: number;
}

/** Streams an answer; undefined where the server was gone before the last choice was there. */
async function ask(url: string, stream: boolean): Promise<Answer | undefined> {
  try {
    const response = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        ...{ model: "tiny", prompt: "the road", stream, temperature: 1 },
        ...{ max_tokens: 1 + Math.floor(Math.random() * 20), ignore_eos: true },
        ...(stream && { stream_options: { continuous_usage_stats: true } }),
      }),
    });
    const text = await response.text().catch(() => "");
    assert(response.ok, text);
    return stream ? lastChoice(text) : toAnswer(JSON.parse(text));
  } catch (error) {
    if (error instanceof TypeError || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function lastChoice(events: string): Answer | undefined {
  const last = events.split("\n\n").findLast((event) => event.includes(`"finish_reason":"`));
  return last === undefined ? undefined : toAnswer(JSON.parse(last.slice("data: ".length)));
}

function toAnswer(body: { id: string; usage: { completion_tokens: number } }): Answer {
  return { id: body.id, tokens: body.usage.completion_tokens };
}

Deno.test("a killed server has written down every answer whose end was seen", async () => {
  const data = await newDataDirectory();
  const seen = new Map<string, number>();
  for (let kill = 0; kill < 2; kill++) {
    const env = { LEMBAS_TEST_RUN_MS: "1", LEMBAS_LOG_LEVEL: "info" };
    const server = new ServerProcess(CHILD, { args: ["--port", "0"], env, data });
    const url = await server.url();
    const base = (await (await fetch(`${url}/v1/models`)).json()).data[0].id;
    assertEquals(typeof base, "string");
    const enough = seen.size + ENOUGH;
    const client = async (index: number) => {
      for (;;) {
        const answer = await ask(url, index % 2 === 0);
        if (answer === undefined) return;
        seen.set(answer.id, answer.tokens);
        if (seen.size === enough) server.kill("SIGKILL");
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, (_, index) => client(index)));
    await server.ended();
  }
  {
    await using store = await openStore({ type: "directory", path: data }, keepingLog());
    const rows = await query(store.database, "SELECT id, completion_tokens FROM usage");
    const kept = new Map(rows.map((row) => [row.id, row.completion_tokens]));
    for (const [id, tokens] of seen) assertEquals(kept.get(id), tokens, id);
    // no more than what was under way at each end
    assert(kept.size <= seen.size + 2 * CLIENTS, `${kept.size} records of ${seen.size} answers`);
    const [total] = await store.usage.total({ by: "tenant" });
    const sum = [...kept.values()].reduce((all, tokens) => all + tokens, 0);
    assertEquals([total?.requests, total?.completionTokens], [kept.size, sum]);
  }
  await Deno.remove(data, { recursive: true });
});
