/**
 * A teacher over a base that nobody else serves: an engine of its own with one adapter, found by path or
 * by name in a directory of adapters. Close it before the base.
 */
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import type { ServedCore } from "../../../src/engine/request/request.ts";
import { Engine } from "../../../src/engine/engine.ts";
import type { Base } from "../../../src/executor/base.ts";
import type { DeviceLock } from "../../../src/runtime/device_lock.ts";
import { CoreCache } from "../../catalog/cache.ts";
import { AdapterDirectory } from "../../catalog/directory.ts";
import { BaseLanes } from "../../catalog/factor_sets.ts";
import { AdapterRegistry } from "../../catalog/registry.ts";
import { isLora, readAdapter } from "../../lora/adapter_file.ts";
import { MAX_LORA_BYTES } from "../../lora/lora_file.ts";
import { readBounded } from "../../lora/peft_files.ts";
import { MAX_RANK, stackOf } from "../../lotr/stack.ts";
import { fileKind, readFactors } from "../../lotr/format.ts";
import { Teacher } from "./teacher.ts";

export interface TeacherSource {
  /** A PEFT directory, a LoRA or core file, or a name in `directory`. */
  readonly teacher: string;
  /** A directory as `deno task serve --adapters` reads it; it may be missing. */
  readonly directory: string;
}

export interface TeacherBase {
  readonly base: Base;
  readonly checkpoint: Checkpoint;
  readonly lock: DeviceLock;
}

export interface OpenedTeacher extends AsyncDisposable {
  readonly teacher: Pick<Teacher, "digest" | "answered" | "taught">;
}

/** The name under which an adapter that is given by its path is served. */
const OWN_NAME = "teacher/teacher";

/** @throws {TypeError | RangeError} where there is no such adapter, or it does not fit the base */
export async function openTeacher(
  source: TeacherSource,
  { base, checkpoint, lock }: TeacherBase,
): Promise<OpenedTeacher> {
  const { config, tokenizer } = checkpoint;
  const registry = new AdapterRegistry({
    stack: stackOf(await checkpoint.digest(), config),
    loras: { base, maxRank: MAX_RANK },
  });
  const adapter = await findAdapter(source, registry);
  const cores = new CoreCache({ loader: registry, maxBytes: registry.residentBytes(adapter) });
  const model = await base.lane();
  const engine = new Engine({
    lanes: [{ factors: undefined, model, bytes: base.laneBytes() }],
    laneSource: new BaseLanes(base, registry.factors),
    adapters: cores,
    tokenizer,
    eosTokenIds: config.eosTokenIds,
    kvMemory: Math.floor(Deno.systemMemoryInfo().available / 3),
    deviceLock: lock,
  });
  const { vocabSize } = config;
  return {
    teacher: new Teacher({ engine, adapter, tenant: adapter.tenant, vocabSize }),
    [Symbol.asyncDispose]: async () => {
      await engine.close();
      await base.drop(model);
    },
  };
}

async function findAdapter(
  { teacher, directory }: TeacherSource,
  registry: AdapterRegistry,
): Promise<ServedCore> {
  const found = await infoOf(teacher);
  if (found !== undefined) return await atPath(teacher, found.isDirectory, registry);
  if ((await infoOf(directory))?.isDirectory === true) {
    await (await AdapterDirectory.open(directory, registry)).scan();
  }
  const named = /[/]{2}|^[./]/.test(teacher) ? undefined : registry.resolve(teacher);
  if (named !== undefined) return named;
  throw new TypeError(
    `there is neither a file nor a directory '${teacher}', nor an adapter of that name ` +
      `under ${directory}`,
  );
}

async function atPath(
  path: string,
  isDirectory: boolean,
  registry: AdapterRegistry,
): Promise<ServedCore> {
  const real = await Deno.realPath(path);
  const above = parentOf(real);
  if (!isDirectory) {
    const content = readAdapter(await readBounded(real, MAX_LORA_BYTES));
    if (!isLora(content)) await addFactors(content.factors, [above, parentOf(above)], registry);
  }
  const root = await AdapterDirectory.open(above, registry);
  return (await root.load({ name: OWN_NAME, path: real })).core;
}

/** The factor set of a core lies beside it, or one level up, as training writes them. */
async function addFactors(
  digest: string,
  directories: readonly string[],
  registry: AdapterRegistry,
): Promise<void> {
  for (const directory of directories) {
    for await (const { name, isFile } of Deno.readDir(directory)) {
      if (!isFile || !name.endsWith(".safetensors")) continue;
      const bytes = await readBounded(`${directory}/${name}`, MAX_LORA_BYTES);
      if (fileKind(bytes) !== "factors") continue;
      const set = readFactors(bytes);
      if (set.digest === digest) return registry.factors.add(set);
    }
  }
  throw new TypeError(
    `its factor set ${digest} is neither beside it nor one level up: put the set's file there`,
  );
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

async function infoOf(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
