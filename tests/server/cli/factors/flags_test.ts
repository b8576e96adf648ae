/** The command line of factors: defaults, and one line of refusal for what is wrong. */
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import {
  FACTORS_HELP,
  factorsHelp,
  parseFactorsCommand,
} from "../../../../server/cli/factors/flags.ts";

Deno.test("making factors has defaults for all but the file to write", () => {
  assertEquals(parseFactorsCommand(["make", "--out", "f.safetensors"]), {
    type: "make",
    flags: {
      model: undefined,
      calibration: undefined,
      maker: "gradient",
      rank: 32,
      modules: ["q_proj", "v_proj"],
      seed: 0,
      storage: "float32",
      out: "f.safetensors",
    },
  });
});

Deno.test("files are inspected and compared without a base unless energy is asked for", () => {
  const plain = {
    energy: undefined,
    model: undefined,
    calibration: undefined,
    rank: undefined,
    output: "text" as const,
  };
  assertEquals(parseFactorsCommand(["inspect", "a", "b"]), {
    type: "inspect",
    flags: { ...plain, files: ["a", "b"] },
  });
  const line = "compare a b --energy gradients --calibration t --model m --rank 8 --json";
  assertEquals(parseFactorsCommand(line.split(" ")), {
    type: "compare",
    flags: {
      files: ["a", "b"],
      energy: "gradients",
      model: "m",
      calibration: "t",
      rank: 8,
      output: "json",
    },
  });
});

Deno.test("no command and --help show the help", () => {
  assertEquals(parseFactorsCommand([]), { type: "help" });
  assertEquals(parseFactorsCommand(["-h"]), { type: "help" });
  assertEquals(parseFactorsCommand(["make", "-h"]), { type: "help", of: "make" });
});

Deno.test("a wrong flag is refused in one line that names it", () => {
  const cases: [string, RegExp][] = [
    ["make", /--out is missing/],
    ["make --out f --maker magic", /--maker is 'magic', known are gradient, random, gaussian, svd/],
    ["make --out f --rank 4.5", /--rank is '4.5'/],
    ["make --out f --rank 65", /--rank is '65', a whole number from 1 to 64/],
    ["make --out f --rank 0", /--rank is '0'/],
    ["make --out f --modules q_proj,x", /Cannot adapt 'x'/],
    ["make --out f --modules=", /Cannot adapt ''/],
    ["make --out f --maker random --seed=-1", /--seed is '-1'/],
    ["make --out f --colour red", /unknown flag --colour/],
    ["make --out f --rnak 4", /unknown flag --rnak \(did you mean --rank\?\)/],
    ["make more --out f", /'more' is no flag/],
    ["make --out f --maker svd --calibration t", /--calibration is for the gradient maker/],
    ["make --out f --maker svd --seed 1", /--seed is for random and gaussian/],
    ["bake --out f", /unknown command 'bake' \(did you mean make\?\)/],
    ["inspect", /inspect needs a file/],
    ["inspect f --seed 1", /inspect has no flag --seed/],
    ["inspect f --model m", /--model is for --energy/],
    ["inspect f --rank 4", /--rank is for --energy/],
    ["inspect f --energy heat", /--energy is 'heat', known are gradients, weights/],
    ["inspect f --energy weights --calibration t", /--calibration is for --energy gradients/],
    ["compare f", /compare needs two factor files, got 1/],
    ["export --core c --out d", /--factors is missing/],
  ];
  for (const [line, text] of cases) {
    const { message } = assertThrows(() => parseFactorsCommand(line.split(" ")), Error);
    assertMatch(message, text);
    assertEquals(message.includes("\n"), false);
  }
});

Deno.test("a command's help is about that command", () => {
  const help = factorsHelp("export");
  for (const part of ["factors export", "--base", "PEFT"]) assertStringIncludes(help, part);
  for (const other of ["factors make", "gaussian"]) assert(!help.includes(other), other);
  assert(!factorsHelp("inspect").includes("gaussian"));
});

Deno.test("the help names every command and maker", () => {
  for (const word of ["make", "inspect", "compare", "export", "gradient", "gaussian", "svd"]) {
    assertMatch(FACTORS_HELP, new RegExp(`\\b${word}\\b`));
  }
});
