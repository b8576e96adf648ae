/** The local `@std/cli/parse-args`: the cases in which lembas's flags depend on it. */
import { assertEquals } from "@std/assert";
import { parseArgs } from "@std/cli/parse-args";

Deno.test("a string flag keeps its digits, an undeclared one becomes a number", () => {
  const args = parseArgs(["--port", "0080", "--n=12", "run", "7"], { string: ["port"] });
  assertEquals(args, { port: "0080", n: 12, _: ["run", 7] });
});

Deno.test("a flag is not another flag's value", () => {
  const args = parseArgs(["--model", "--verbose", "x"], {
    string: ["model"],
    boolean: ["verbose"],
  });
  assertEquals(args, { model: "", verbose: true, _: ["x"] });
});

Deno.test("booleans default to false, take true and false, and can be negated", () => {
  const options = { boolean: ["a", "b", "c", "d"], negatable: ["c"] } as const;
  const args = parseArgs(["--a", "--b=false", "--no-c", "--d", "false"], options);
  assertEquals(args, { a: true, b: false, c: false, d: false, _: [] });
  assertEquals(parseArgs([], options), { a: false, b: false, c: false, d: false, _: [] });
});

Deno.test("defaults fill in what is missing and keep the type", () => {
  const args = parseArgs(["--host", "::1"], {
    string: ["host", "port"],
    default: { host: "127.0.0.1", port: "8000" },
  });
  const port: string = args.port;
  assertEquals([args.host, port], ["::1", "8000"]);
});

Deno.test("aliases share one value and collected flags gather theirs", () => {
  const args = parseArgs(["-p", "1", "--stop", "a", "--stop=b"], {
    string: ["port", "stop"],
    collect: ["stop"],
    alias: { port: "p" },
  });
  assertEquals(args, { port: "1", p: "1", stop: ["a", "b"], _: [] });
  assertEquals(parseArgs([], { string: ["stop"], collect: ["stop"] }).stop, []);
});

Deno.test("short flags group, and take a number or a value after =", () => {
  assertEquals(parseArgs(["-vq", "-n12", "-o=x"]), { v: true, q: true, n: 12, o: "x", _: [] });
});

Deno.test("unknown arguments are shown to the caller, who may drop them", () => {
  const seen: string[] = [];
  const args = parseArgs(["--port", "1", "--nope=2", "stray"], {
    string: ["port"],
    unknown: (arg) => {
      seen.push(arg);
      return false;
    },
  });
  assertEquals(seen, ["--nope=2", "stray"]);
  assertEquals(args, { port: "1", _: [] });
});

Deno.test("nothing after -- is parsed", () => {
  assertEquals(parseArgs(["a", "--", "--b", "1"]), { _: ["a", "--b", "1"] });
  assertEquals(parseArgs(["a", "--", "--b"], { "--": true }), { _: ["a"], "--": ["--b"] });
});
