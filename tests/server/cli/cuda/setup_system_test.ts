/** CUDA's set-up with the real pip, over small wheels made for the test. */
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { createHash } from "node:crypto";
import onnxruntime from "onnxruntime-node/package.json" with { type: "json" };
import { FlagError } from "../../../../server/cli/flags.ts";
import { parseSetupCuda } from "../../../../server/cli/setup_cuda.ts";
import { CUDA_RUNTIME, CUDA_WHEELS, type CudaWheel } from "../../../../server/cli/cuda/wheels.ts";
import { cudaFiles, lackOfLayout, RUNTIME_LIBRARY } from "../../../../src/runtime/cuda/layout.ts";
import { writeWheel } from "../../../checkpoint/wheel.ts";

const CHILD = decodeURIComponent(new URL("./setup_child.ts", import.meta.url).pathname);
const BUILD = { version: CUDA_RUNTIME, commit: "abc123" };

/** A directory with wheels, a library as npm's, and the set-up that a child is to make. */
class Place implements AsyncDisposable {
  private constructor(readonly root: string) {}

  static async make(): Promise<Place> {
    const place = new Place(await Deno.makeTempDir());
    await Deno.mkdir(`${place.root}/npm`);
    await Deno.writeTextFile(`${place.root}/npm/${RUNTIME_LIBRARY}`, "npm's own");
    await place.offer();
    return place;
  }

  get folder(): string {
    return `${this.root}/cuda/${CUDA_RUNTIME}`;
  }

  /** Offers small wheels of the real names and layout; what is changed about them is not told. */
  async offer(
    change: { licence?: string; commit?: string; swapped?: boolean } = {},
  ): Promise<void> {
    await Deno.remove(`${this.root}/wheels`, { recursive: true }).catch(() => {});
    const wheels: CudaWheel[] = [];
    for (const wheel of CUDA_WHEELS) wheels.push(await this.#write(wheel, change));
    const runtime = { ...BUILD, folder: `${this.root}/npm` };
    const setup = { folder: this.folder, wheels, runtime };
    await Deno.writeTextFile(`${this.root}/setup.json`, JSON.stringify(setup));
  }

  async #write(
    wheel: CudaWheel,
    { licence = wheel.licence, commit = BUILD.commit, swapped = false }:
      & Parameters<
        Place["offer"]
      >[0]
      & object,
  ): Promise<CudaWheel> {
    const { name, version, files, built } = wheel;
    const encoder = new TextEncoder();
    const entries = Object.values(files).map((entry) => [entry, encoder.encode(`the ${entry}`)]);
    const library = encoder.encode(`${"x".repeat(3_000_000)}git-commit-id=${commit}, build`);
    const path = await writeWheel(
      `${this.root}/wheels`,
      { ...Object.fromEntries(entries), ...built === undefined ? {} : { [built]: library } },
      { name: name.replaceAll("-", "_"), version, metadata: `License: ${licence}\n` },
    );
    const bytes = await Deno.readFile(path);
    const sha256 = createHash("sha256").update(swapped ? "another" : bytes).digest("hex");
    return { ...wheel, bytes: bytes.length, sha256, unpacked: 1000 };
  }

  /** Runs the command in a process whose pip knows only these wheels. */
  spawn(
    args: readonly string[],
    answer?: string,
    env: Readonly<Record<string, string>> = {},
  ): Deno.ChildProcess {
    return new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-lock", CHILD, `${this.root}/setup.json`, ...args],
      env: {
        PIP_NO_INDEX: "1",
        PIP_FIND_LINKS: `${this.root}/wheels`,
        PIP_CONFIG_FILE: "/dev/null",
        PIP_CONSTRAINT: "",
        ...answer === undefined ? {} : { ANSWER: answer },
        ...env,
      },
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  }

  async run(
    args: readonly string[],
    answer?: string,
    env?: Readonly<Record<string, string>>,
  ): Promise<{ ok: boolean; text: string }> {
    const { success, stdout, stderr } = await this.spawn(args, answer, env).output();
    const decoder = new TextDecoder();
    return { ok: success, text: decoder.decode(stdout) + decoder.decode(stderr) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.root, { recursive: true });
  }
}

Deno.test("the wheels are for the version of ONNX Runtime that npm brings", () => {
  assertEquals(CUDA_RUNTIME, onnxruntime.version);
  const names = CUDA_WHEELS.flatMap(({ files }) => Object.keys(files));
  for (const name of cudaFiles().filter((name) => name !== RUNTIME_LIBRARY)) {
    assert(names.includes(name), `no wheel brings ${name}`);
  }
});

Deno.test("nothing is fetched before names, sizes and licences are agreed to", async () => {
  await using place = await Place.make();
  const silent = await place.run([]);
  assert(!silent.ok);
  for (const { name, version, licence } of CUDA_WHEELS) {
    assertMatch(silent.text, new RegExp(`^${name} +${version} +\\S+ \\S+ +${licence}$`, "m"));
  }
  assertStringIncludes(silent.text, "pass --yes");
  assertStringIncludes((await place.run([], "no")).text, "nothing was fetched");
  assertEquals(await Deno.stat(`${place.root}/cuda`).catch(() => "none"), "none");
});

Deno.test("what is set up is whole, found again without pip, and removed", async () => {
  await using place = await Place.make();
  const first = await place.run([], "yes");
  assert(first.ok, first.text);
  assertEquals(lackOfLayout(place.folder, BUILD), undefined);
  assertEquals(await Deno.readTextFile(`${place.folder}/${RUNTIME_LIBRARY}`), "npm's own");
  const licences = [...Deno.readDirSync(`${place.folder}/licences`)].map(({ name }) => name);
  assertEquals(licences.sort(), CUDA_WHEELS.map(({ name }) => `${name}.txt`).sort());
  await Deno.remove(`${place.root}/wheels`, { recursive: true });
  const second = await place.run([]);
  assert(second.ok && second.text.startsWith(`CUDA for ONNX Runtime ${CUDA_RUNTIME} is set up`));
  const removed = await place.run(["--remove"]);
  assertMatch(removed.text, /^removed .*cuda, \d+ B/);
  assertEquals(await Deno.stat(`${place.root}/cuda`).catch(() => "none"), "none");
});

Deno.test("a damaged set-up fetches the wheel of the damaged file alone", async () => {
  await using place = await Place.make();
  assert((await place.run(["--yes"])).ok);
  await Deno.writeTextFile(`${place.folder}/libcurand.so.10`, "cut");
  const { ok, text } = await place.run(["--yes"]);
  assert(ok, text);
  const fetched = CUDA_WHEELS.filter(({ name }) => text.includes(`${name} `)).map(({ name }) =>
    name
  );
  assertEquals(fetched, ["nvidia-curand"]);
  assertEquals(lackOfLayout(place.folder, BUILD), undefined);
});

Deno.test("a set-up for another build of ONNX Runtime is made anew from the provider on", async () => {
  await using place = await Place.make();
  assert((await place.run(["--yes"])).ok);
  const about = JSON.parse(await Deno.readTextFile(`${place.folder}/about.json`));
  const old = JSON.stringify({ ...about, commit: "0ld" });
  await Deno.writeTextFile(`${place.folder}/about.json`, old);
  const { ok, text } = await place.run(["--yes"]);
  assert(ok && text.includes("onnxruntime-gpu ") && !text.includes("nvidia-cublas "), text);
  assertEquals(lackOfLayout(place.folder, BUILD), undefined);
});

Deno.test("a wheel that is not what was told is refused, and leaves nothing of itself", async () => {
  await using place = await Place.make();
  for (
    const [change, words] of [
      [{ swapped: true }, "its SHA-256 is "],
      [{ licence: "Another" }, "its licence is Another, and MIT License was told"],
      [{ commit: "fff000" }, "it was built from commit fff000, npm's ONNX Runtime"],
    ] as const
  ) {
    await place.offer(change);
    const { ok, text } = await place.run(["--yes"]);
    assert(!ok);
    assertStringIncludes(text, `Cannot use onnxruntime-gpu ${CUDA_RUNTIME}: ${words}`);
    assert(lackOfLayout(place.folder, BUILD)?.includes("are not set up"));
  }
  await place.offer();
  assert((await place.run(["--yes"])).ok);
  assertEquals(lackOfLayout(place.folder, BUILD), undefined);
});

Deno.test("without Python, and without the packages, one sentence says so", async () => {
  await using place = await Place.make();
  const missing = await place.run(["--yes"], undefined, { PATH: place.root });
  assert(!missing.ok);
  assertMatch(missing.text, /^Cannot fetch onnxruntime-gpu: there is no python3 on the PATH; /m);
  await Deno.remove(`${place.root}/wheels`, { recursive: true });
  const empty = await place.run(["--yes"]);
  assert(!empty.ok);
  assertMatch(empty.text, /^Cannot fetch onnxruntime-gpu \S+ with pip: No matching distribution/m);
});

Deno.test("a set-up that is killed goes on, and two at once make one", async () => {
  await using place = await Place.make();
  const child = place.spawn(["--yes"]);
  const cut = `${place.folder}.partial/libcudart.so.13`;
  while (await Deno.stat(cut).catch(() => undefined) === undefined) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  child.kill("SIGKILL");
  await child.output();
  assert(lackOfLayout(place.folder, BUILD)?.includes("are not set up"));
  const both = await Promise.all([place.run(["--yes"]), place.run(["--yes"])]);
  assert(both.every(({ ok }) => ok), both.map(({ text }) => text).join("\n"));
  assert(both.every(({ text }) => !text.includes("onnxruntime-gpu 1")));
  assertEquals(lackOfLayout(place.folder, BUILD), undefined);
  const left = [...Deno.readDirSync(`${place.root}/cuda`)].map(({ name }) => name).sort();
  assertEquals(left, [CUDA_RUNTIME, `${CUDA_RUNTIME}.lock`]);
});

Deno.test("a flag that does not exist is refused", () => {
  assertEquals(parseSetupCuda(["--yes"]).type, "run");
  assertThrows(() => parseSetupCuda(["--yess"]), FlagError, "did you mean '--yes'");
});
