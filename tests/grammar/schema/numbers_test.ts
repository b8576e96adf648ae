/** Bounds of numbers: every short decimal is accepted exactly where a validator finds it valid. */
import { Ajv } from "ajv";
import { assert, assertEquals } from "@std/assert";
import { accepts } from "../../../src/grammar/automata/automaton.ts";
import { readSchema } from "../../../src/grammar/schema/read_schema.ts";
import { uniformAt } from "../../../src/executor/philox.ts";
import { byteMatcher } from "../byte_matcher.ts";

/** Whole numbers around every change of length and lead, and two digits behind the point. */
const WHOLES = [0, 1, 2, 4, 5, 7, 9, 10, 11, 12, 19, 20, 50, 98, 99, 100, 101, 110, 119, 199, 1000];
const FRACTIONS = ["", ".1", ".5", ".9", ".01", ".05", ".10", ".50", ".99", ".001", ".005", ".999"];
const DECIMALS = ["", "-"].flatMap((sign) =>
  WHOLES.flatMap((whole) => FRACTIONS.map((fraction) => `${sign}${whole}${fraction}`))
).filter((text) => Number(text) !== 0 || !text.startsWith("-"));
const WRONG = [
  "0:001",
  "0,001",
  "0x5",
  "-0,5",
  "01",
  "-01",
  "1.",
  ".5",
  "+1",
  "-",
  "",
  "--1",
  "-0",
];

interface NumberSchema {
  readonly type: "integer" | "number";
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly multipleOf?: number;
}

/** A schema with some bounds of up to three digits behind the point. */
function randomSchema(seed: number): NumberSchema {
  let position = 0;
  const draw = () => uniformAt(seed, 0, position++);
  const bound = () => {
    const size = [0.1, 1, 10, 150][Math.floor(draw() * 4)] ?? 1;
    return Number(((draw() * 2 - 1) * size).toFixed(Math.floor(draw() * 4)));
  };
  const schema: Record<string, unknown> = { type: draw() < 0.4 ? "integer" : "number" };
  if (draw() < 0.7) schema[draw() < 0.5 ? "minimum" : "exclusiveMinimum"] = bound();
  if (draw() < 0.7) schema[draw() < 0.5 ? "maximum" : "exclusiveMaximum"] = bound();
  if (draw() < 0.2) schema.multipleOf = [2, 3, 7, 10, 25][Math.floor(draw() * 5)];
  return schema as unknown as NumberSchema;
}

function spellings(schema: NumberSchema): (text: string) => boolean {
  const { root } = readSchema(schema);
  assert(root.kind === "number");
  return (text) => accepts(root.spellings, text);
}

Deno.test("bounds hold for every short decimal, as a validator has it", () => {
  const ajv = new Ajv();
  let checked = 0;
  for (let seed = 0; seed < 400; seed++) {
    const schema = randomSchema(seed);
    const [accepted, valid] = [spellings(schema), ajv.compile(schema)];
    for (const text of DECIMALS) {
      if (schema.type === "integer" && text.includes(".")) {
        assert(!accepted(text), `${JSON.stringify(schema)}: ${text}`);
        continue;
      }
      // multiples are spelled without zeros at the end
      if (schema.multipleOf !== undefined && /\..*0$/.test(text)) continue;
      checked++;
      assertEquals(accepted(text), valid(Number(text)), `${JSON.stringify(schema)}: ${text}`);
    }
    for (const text of WRONG) assert(!accepted(text), `${JSON.stringify(schema)}: ${text}`);
  }
  assert(checked > 100_000, `${checked} checked`);
});

Deno.test("multiples of fractions are counted as decimals", () => {
  for (const [multipleOf, scale] of [[0.01, 100], [0.5, 2], [2.5, 0.4], [0.25, 4]] as const) {
    const accepted = spellings({ type: "number", multipleOf });
    for (const text of DECIMALS) {
      if (/\..*0$/.test(text)) continue;
      const steps = Number(text) * scale;
      assertEquals(
        accepted(text),
        Math.abs(steps - Math.round(steps)) < 1e-9,
        `${multipleOf}: ${text}`,
      );
    }
  }
});

Deno.test("the library's matcher keeps to the bounds", async () => {
  const matcher = await byteMatcher();
  const cases: [NumberSchema, string[], string[]][] = [
    [{ type: "number", minimum: 0.001, maximum: 0.01 }, ["0.001", "0.005", "0.01"], [
      "0:001",
      "0,001",
      "0.0009",
      "0.011",
      "1",
    ]],
    [{ type: "number", minimum: 0, maximum: 1 }, ["0", "1", "0.999", "1.0"], [
      "1.5",
      "-0.1",
      "1.01",
    ]],
    [{ type: "number", exclusiveMinimum: 0 }, ["0.5", "1", "0.0001"], ["0", "0.0", "-1"]],
    [{ type: "number", minimum: 0.5 }, ["0.5", "10"], ["0x5", "0.4"]],
    [{ type: "number", maximum: -0.5 }, ["-0.5", "-2"], ["-0,5", "0", "-0.4"]],
    [{ type: "integer", minimum: 2 }, ["2", "10", "1999"], ["1", "0", "-3", "2.5"]],
    [{ type: "integer", exclusiveMinimum: -3, exclusiveMaximum: 3 }, ["-2", "0", "2"], ["-3", "3"]],
    [{ type: "integer", minimum: 1e15 }, ["1000000000000000"], ["999999999999999"]],
    [{ type: "number", minimum: 1e-7 }, ["0.0000001", "1"], ["0.00000009", "0"]],
  ];
  for (const [schema, right, wrong] of cases) {
    const grammar = await matcher.compile(schema);
    for (const text of right) {
      assert(await grammar.accepts(text), `${JSON.stringify(schema)}: ${text}`);
    }
    for (const text of wrong) {
      assert(!await grammar.accepts(text), `${JSON.stringify(schema)}: ${text}`);
    }
  }
});

Deno.test("a number without bounds may have an exponent, one of 15 digits at most", () => {
  const accepted = spellings({ type: "number" });
  for (const text of ["1e5", "-1.5E-7", "2.5e+10", "123456789012345"]) assert(accepted(text), text);
  for (
    const text of [
      "1e",
      "1e+",
      "1e+-5",
      "1e555",
      "e5",
      "1e5E9",
      "1e5.0",
      "-0e1",
      "1234567890123456",
    ]
  ) {
    assert(!accepted(text), text);
  }
  assert(!spellings({ type: "number", minimum: 0 })("1e5"));
  assert(spellings({ type: "integer" })("9223372036854775807"));
});
