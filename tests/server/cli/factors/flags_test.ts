/** The command line of factors: defaults, and one line of refusal for what is wrong. */
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { parseFactorsCommand } from "../../../../server/cli/factors/flags.ts";
import { FACTORS_HELP, factorsHelp } from "../../../../server/cli/factors/help.ts";

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

Deno.test("LoRAs are compressed at one rank into a directory, or at several into a table", () => {
  const flags = (line: string) => {
    const command = parseFactorsCommand(line.split(" "));
    return command.type === "compress" ? command.flags : undefined;
  };
  assertEquals(flags("make --from-loras a b --from-loras=c --out d"), {
    model: undefined,
    loras: ["a", "c", "b"],
    ranks: [32],
    clusters: 1,
    enough: 0.9,
    seed: 0,
    storage: "float32",
    out: "d",
  });
  assertEquals(flags("make --from-loras a --rank 64,16 --rank 32")?.ranks, [16, 32, 64]);
  const auto = flags("make --from-loras a --clusters auto --captured 75 --out d --rank 8");
  assertEquals([auto?.clusters, auto?.enough, auto?.ranks], ["auto", 0.75, [8]]);
  const refused: [string, RegExp][] = [
    ["make --from-loras a", /--out is missing/],
    ["make --from-loras a --rank 8,16 --out d", /--out is for one rank/],
    ["make --from-loras a --out d --maker svd", /--maker has no effect with --from-loras/],
    ["make --from-loras a --out d --clusters few", /--clusters is 'few', a whole number or auto/],
    ["make --from-loras a --out d --captured 50", /--captured is for --clusters auto/],
    ["make --from-loras a --out d --clusters auto --captured 100", /between 0 and 100/],
    ["make --out f --clusters 2", /--clusters is for --from-loras/],
    ["make --out f --rank 8,16", /several are for --from-loras/],
    ["inspect f --from-loras a", /inspect has no flag --from-loras/],
  ];
  for (const [line, text] of refused) {
    assertMatch(assertThrows(() => parseFactorsCommand(line.split(" ")), TypeError).message, text);
  }
});
