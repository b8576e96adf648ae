/** The factors command: its flags, its words, and one run of it as a process. */
import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { describeFile, parseFactorsCommand } from "../../server/factors.ts";

const FIXTURES = new URL("../fixtures/adapters/", import.meta.url);

Deno.test("the factors command line has defaults for all but the file to write", () => {
  assertEquals(parseFactorsCommand(["make", "--out", "f.safetensors"]), {
    type: "make",
    flags: {
      model: undefined,
      maker: "random",
      rank: 32,
      modules: ["q_proj", "v_proj"],
      seed: 0,
      storage: "float32",
      out: "f.safetensors",
    },
  });
  assertEquals(parseFactorsCommand([]), { type: "help" });
  assertEquals(parseFactorsCommand(["inspect", "a", "b"]), { type: "inspect", files: ["a", "b"] });
});

Deno.test("a wrong flag of the factors command is refused in one line that names it", () => {
  const cases: [string, RegExp][] = [
    ["make", /--out is missing/],
    ["make --out f --maker magic", /--maker is 'magic', known are random, gaussian, svd/],
    ["make --out f --rank 4.5", /--rank is '4.5'/],
    ["make --out f --rank 65", /--rank is '65', a whole number up to 64/],
    ["make --out f --modules q_proj,x", /Cannot adapt 'x'/],
    ["make --out f --modules=", /Cannot adapt ''/],
    ["make --out f --seed=-1", /--seed is '-1'/],
    ["make --out f --colour red", /unknown flag --colour/],
    ["make more --out f", /'more' is no flag/],
    ["bake --out f", /unknown command 'bake'/],
    ["inspect", /inspect needs a file/],
    ["export --core c --out d", /--factors is missing/],
  ];
  for (const [line, text] of cases) {
    const { message } = assertThrows(() => parseFactorsCommand(line.split(" ")), Error);
    assertMatch(message, text);
    assertEquals(message.includes("\n"), false);
  }
});

Deno.test("a file is described by its kind, digests and shape", () => {
  const core = describeFile(Deno.readFileSync(new URL("shelf.safetensors", FIXTURES)));
  const factors = describeFile(Deno.readFileSync(new URL("factors.safetensors", FIXTURES)));
  assertEquals([core.kind, core.rank, core.layers, core.factors], [
    "core",
    16,
    30,
    factors.digest,
  ]);
  assertEquals(factors.residentBytes, 61440);
});

Deno.test("the factors command ends with one line and a failure on bad input", async () => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "server/factors.ts", "inspect", "deno.json"],
    cwd: new URL("../../", import.meta.url),
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder().decode(stderr);
  assertEquals([code, stdout.length], [1, 0]);
  assertMatch(text, /^deno\.json: Cannot read safetensors[^\n]*\n$/);
});
