/** The store on disk: what is torn or damaged is named and set aside, the rest works. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { DEFAULT_HYPERPARAMETERS } from "../../adapters/training.ts";
import { toHyperparameters } from "../../server/jobs/bodies.ts";
import { createLog } from "../../server/log.ts";
import { DataDirectory, defaultDataDirectory } from "../../server/store/data_directory.ts";
import { openDiskStore } from "../../server/store/disk.ts";
import { newId } from "../../server/store/ids.ts";
import { linesBackward } from "../../server/store/lines_backward.ts";
import { pageOf } from "../../server/store/page.ts";
import type { JobEvent, JobRecord, Store } from "../../server/store/store.ts";

interface Opened extends AsyncDisposable {
  readonly store: Store;
  readonly lines: readonly string[];
}

async function open(root: string): Promise<Opened> {
  const lines: string[] = [];
  const store = await openDiskStore(root, createLog("info", (line) => lines.push(line)));
  return { store, lines, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
}

async function withRoot(body: (root: string) => Promise<void>): Promise<void> {
  const root = await Deno.makeTempDir();
  try {
    await body(root);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

const JOB: Omit<JobRecord, "id" | "createdAt"> = {
  model: "tiny",
  tenant: "default",
  suffix: null,
  seed: 1,
  trainingFile: "file-x",
  validationFile: null,
  hyperparameters: toHyperparameters(undefined),
  settled: null,
  metadata: null,
  status: "queued",
  validated: true,
  finishedAt: null,
  error: null,
  fineTunedModel: null,
  resultFiles: [],
  trainedTokens: null,
};

const ALL = { after: undefined, limit: 100, order: "desc" } as const;

function event(message: string): JobEvent {
  const id = newId("ftevent");
  return { id, createdAt: 1, level: "info", message, type: "message", data: null };
}

async function addFile(store: Store, text: string): Promise<string> {
  const bytes = new TextEncoder().encode(text);
  await using staged = await store.files.stage(ReadableStream.from([bytes]));
  return (await staged.commit({ filename: "x.jsonl", purpose: "fine-tune" })).id;
}

Deno.test("what was written is there after opening again, in the same order", () =>
  withRoot(async (root) => {
    let file: string;
    let jobs: JobRecord[];
    {
      await using opened = await open(root);
      const { store } = opened;
      file = await addFile(store, "hello");
      jobs = await Promise.all([1, 2, 3].map((seed) => store.jobs.create({ ...JOB, seed })));
      const [first] = jobs;
      await store.jobs.update({ ...first, status: "paused" });
      await store.jobs.addEvents(first.id, [event("a"), event("b")]);
      await store.jobs.saveProgress(first.id, Uint8Array.of(1, 2, 3));
    }
    await using opened = await open(root);
    const { store, lines } = opened;
    assertEquals(new TextDecoder().decode(await store.files.read(file)), "hello");
    const seen = await store.jobs.all();
    assertEquals(seen.map(({ id }) => id), jobs.map(({ id }) => id));
    assertEquals(seen[0]?.status, "paused");
    const times = seen.map(({ createdAt }) => createdAt);
    assertEquals(new Set(times).size, 3);
    const { items } = await store.jobs.events(jobs[0].id, ALL);
    assertEquals(items.map(({ message }) => message), ["b", "a"]);
    assertEquals(await store.jobs.progress(jobs[0].id), Uint8Array.of(1, 2, 3));
    assertEquals(lines, []);
  }));

Deno.test("a torn or changed record is named and set aside; the others work", () =>
  withRoot(async (root) => {
    const files: string[] = [];
    let jobs: JobRecord[];
    {
      await using opened = await open(root);
      for (const text of ["one", "two"]) files.push(await addFile(opened.store, text));
      jobs = await Promise.all([1, 2, 3].map(() => opened.store.jobs.create(JOB)));
      await opened.store.jobs.saveProgress(jobs[2].id, Uint8Array.of(1, 2, 3));
    }
    await Deno.writeTextFile(`${root}/files/${files[0]}/content`, "on");
    const record = `${root}/jobs/${jobs[0].id}/job.json`;
    const text = await Deno.readTextFile(record);
    await Deno.writeTextFile(record, text.replace('"seed":1', '"seed":2'));
    await Deno.writeTextFile(`${root}/jobs/${jobs[1].id}/job.json`, text.slice(0, 100));
    await Deno.truncate(`${root}/jobs/${jobs[2].id}/progress`, 34);
    await Deno.mkdir(`${root}/files/.unfinished`);
    await using opened = await open(root);
    const { store, lines } = opened;
    assertEquals((await store.files.list({ ...ALL, purpose: undefined })).items.length, 1);
    assertEquals((await store.jobs.all()).map(({ id }) => id), [jobs[2].id]);
    assertEquals(await store.jobs.progress(jobs[2].id), undefined);
    const log = lines.join("\n");
    const broken = [`files/${files[0]}`, `jobs/${jobs[0].id}`, `jobs/${jobs[1].id}`];
    for (const path of [...broken, `jobs/${jobs[2].id}/progress`]) {
      assertStringIncludes(log, `set aside ${path} as aside/`);
    }
    assertEquals(lines.length, 4);
    assertEquals([...Deno.readDirSync(`${root}/aside`)].length, 4);
    assertEquals([...Deno.readDirSync(`${root}/files`)].length, 1);
    await store.jobs.create(JOB);
  }));

Deno.test("content that was changed behind the store's back is refused", () =>
  withRoot(async (root) => {
    await using opened = await open(root);
    const id = await addFile(opened.store, "hello");
    await Deno.writeTextFile(`${root}/files/${id}/content`, "jello");
    const error = await assertRejects(() => opened.store.files.read(id), TypeError);
    assertStringIncludes(error.message, id);
  }));

Deno.test("an event that a crash has torn is cut off, and others follow it", () =>
  withRoot(async (root) => {
    let id: string;
    {
      await using opened = await open(root);
      ({ id } = await opened.store.jobs.create(JOB));
      await opened.store.jobs.addEvents(id, [event("first"), event("second")]);
    }
    const path = `${root}/jobs/${id}/events.jsonl`;
    await Deno.writeTextFile(path, `{"id":"ftevent-torn","mess`, { append: true });
    await using opened = await open(root);
    const { store, lines } = opened;
    const messages = async () =>
      (await store.jobs.events(id, ALL)).items.map(({ message }) => message);
    assertEquals(await messages(), ["second", "first"]);
    await store.jobs.addEvents(id, [event("third")]);
    assertEquals(await messages(), ["third", "second", "first"]);
    assertMatch(lines.join("\n"), /events\.jsonl: cut off a torn line/);
  }));

Deno.test("lines are read from the end of a file, whatever the size of a block", () =>
  withRoot(async (root) => {
    const path = `${root}/lines`;
    assertEquals(await Array.fromAsync(linesBackward(path)), []);
    const lines = Array.from({ length: 40 }, (_, i) => `${"é".repeat(i % 9)}${i}`);
    for (const end of ["\n", ""]) {
      await Deno.writeTextFile(path, lines.join("\n") + end);
      for (const block of [1, 2, 7, 64, 1 << 16]) {
        assertEquals(await Array.fromAsync(linesBackward(path, block)), lines.toReversed());
      }
    }
  }));

Deno.test("events are paged in both orders, and an unknown cursor is refused", () =>
  withRoot(async (root) => {
    await using opened = await open(root);
    const { jobs } = opened.store;
    const { id } = await jobs.create(JOB);
    const events = ["a", "b", "c", "d"].map(event);
    await jobs.addEvents(id, events);
    const page = async (after: string | undefined, order: "asc" | "desc") => {
      const { items, hasMore } = await jobs.events(id, { after, limit: 2, order });
      return [items.map(({ message }) => message).join(""), hasMore];
    };
    assertEquals(await page(undefined, "desc"), ["dc", true]);
    assertEquals(await page(events[2]?.id, "desc"), ["ba", false]);
    assertEquals(await page(events[0]?.id, "desc"), ["", false]);
    assertEquals(await page(events[0]?.id, "asc"), ["bc", true]);
    await assertRejects(() => page("ftevent-none", "desc"), RangeError, "ftevent-none");
  }));

Deno.test("of many checkpoints the newest are kept", () =>
  withRoot(async (root) => {
    await using opened = await open(root);
    const { store: { jobs } } = opened;
    const { id: jobId } = await jobs.create(JOB);
    for (let step = 1; step <= 12; step++) {
      const digests = { core: "c".repeat(64), factors: "f".repeat(64) };
      const metrics = { step };
      await jobs.addCheckpoint(
        { id: newId("ftckpt"), jobId, createdAt: step, step, metrics, ...digests },
        Uint8Array.of(step),
      );
    }
    const kept = await jobs.checkpoints(jobId);
    assertEquals(kept.map(({ step }) => step), [12, 11, 10, 9, 8, 7, 6, 5]);
    assertEquals(await jobs.checkpointCore(kept[0]), Uint8Array.of(12));
    assertEquals([...Deno.readDirSync(`${root}/jobs/${jobId}/checkpoints`)].length, 16);
  }));

Deno.test("a data directory has one holder at a time", () =>
  withRoot(async (root) => {
    const log = createLog("silent");
    {
      using held = await DataDirectory.open(root, log);
      assertEquals(held.root, root);
      const error = await assertRejects(() => DataDirectory.open(root, log), Error);
      assertEquals(
        error.message,
        `Cannot use the data directory ${root}: process ${Deno.pid} has it. ` +
          "Choose another one with --data.",
      );
    }
    using again = await DataDirectory.open(root, log);
    assertEquals(again.root, root);
    await Deno.writeTextFile(`${root}/file`, "");
    await assertRejects(() => DataDirectory.open(`${root}/file/data`, log), Error, "--data");
  }));

Deno.test("the data directory is the environment's", () => {
  const at = (env: Record<string, string>) => defaultDataDirectory((name) => env[name]);
  assertEquals(at({ LEMBAS_HOME: "/l", HOME: "/h" }), "/l/data");
  assertEquals(at({ XDG_DATA_HOME: "/x", HOME: "/h" }), "/x/lembas");
  assertEquals(at({ HOME: "/h" }), "/h/.local/share/lembas");
});

Deno.test("ids look like OpenAI's and differ", () => {
  const ids = Array.from({ length: 100 }, () => newId("ftjob"));
  assertEquals(new Set(ids).size, 100);
  for (const id of ids) assertMatch(id, /^ftjob-[A-Za-z0-9]{24}$/);
});

Deno.test("pages follow one another in either order", () => {
  const items = ["a", "b", "c"].map((id) => ({ id }));
  const page = (after: string | undefined, order: "asc" | "desc") => {
    const { items: found, hasMore } = pageOf(items, { after, limit: 2, order });
    return [found.map(({ id }) => id).join(""), hasMore];
  };
  assertEquals(page(undefined, "desc"), ["cb", true]);
  assertEquals(page("b", "desc"), ["a", false]);
  assertEquals(page(undefined, "asc"), ["ab", true]);
  assertEquals(page("c", "asc"), ["", false]);
});

Deno.test("what a request leaves out has the default, and rank follows the factor set", () => {
  const { seed: _, rank: __, ...defaults } = DEFAULT_HYPERPARAMETERS;
  assertEquals(toHyperparameters(undefined), { ...defaults, rank: "auto", factors: null });
  const { warmup, epochs } = toHyperparameters({ warmup: 0, n_epochs: 2 });
  assertEquals([warmup, epochs], [0, 2]);
  assertNotEquals(toHyperparameters({ clip: 2 }).clip, defaults.clip);
  assert(toHyperparameters({ rank: 4 }).rank === 4);
});
