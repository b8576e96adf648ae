/**
 * Models and LoRAs from the Hugging Face hub, through @huggingface/hub: only the files a decoder needs, checked
 * against the hub's own SHA-256. A branch moves, so files are kept and continued by commit, and what a
 * branch was last is remembered for when the hub does not answer.
 */

import { createHash } from "node:crypto";
import { dirname } from "node:path";
import { createOnce, exists, writeAtomically } from "./cache.ts";
import type { Environment } from "../../util/cache_directory.ts";
import { type ModelFiles, placeOf } from "./model_files.ts";
import type { Progress } from "./progress.ts";
import { withoutSecrets } from "./secrets.ts";

export interface HubModel {
  readonly owner: string;
  readonly name: string;
  readonly revision: string;
}

export interface HubOptions {
  /** Which of a repository's files are wanted. */
  readonly choose: (source: string, listed: readonly string[]) => ModelFiles;
  /** Repositories are kept in directories under this one. */
  readonly cache: string;
  readonly progress: Progress;
  /** `HF_ENDPOINT` names another hub, `HF_TOKEN` opens gated models. */
  readonly env: Environment;
  readonly signal: AbortSignal | undefined;
  /** Hears where an earlier commit is used because the hub does not give the present one. */
  readonly notice: (text: string) => void;
}

/** Milliseconds that a hub may take to name a commit where an earlier one is at hand. */
const CHECK_MS = 10_000;

interface RemoteFile {
  readonly path: string;
  readonly size: number;
  /** Known for large files. */
  readonly sha256: string | undefined;
}

/** What every call to the hub carries. */
interface HubRequest {
  readonly repo: { readonly type: "model"; readonly name: string };
  readonly revision: string;
  readonly hubUrl?: string;
  readonly accessToken?: string;
  readonly fetch: typeof fetch;
}

/**
 * `owner/name`, or `owner/name@revision`.
 *
 * @throws {TypeError} for anything else
 */
export function parseHub(text: string): HubModel {
  const match = /^([\w-][\w.-]*)\/([\w-][\w.-]*)(?:@([\w-][\w.-]*))?$/.exec(text);
  if (match === null) throw new TypeError(`Cannot resolve 'hf:${text}': write hf:owner/name`);
  const [, owner = "", name = "", revision = "main"] = match;
  return { owner, name, revision };
}

/**
 * The path of what is wanted of the repository: its one GGUF, or the directory of its safetensors. Each commit
 * is fetched once and then found in the cache; where the hub does not give the one that a branch is
 * at now, the last one that it did is used.
 *
 * @throws {TypeError} where the hub cannot be reached, has no such model, or sends damaged files
 */
export async function resolveHub(model: HubModel, options: HubOptions): Promise<string> {
  const cached = new CachedModel(model, options.cache);
  const last = await cached.last();
  try {
    const commit = await commitOf(model, last, options);
    const fetched = { ...model, revision: commit };
    await createOnce(cached.directory(commit), (partial) => fetchModel(fetched, partial, options));
    if (commit !== last) await cached.remember(commit);
    return modelIn(cached.directory(commit), options);
  } catch (cause) {
    options.signal?.throwIfAborted();
    const { owner, name, revision } = model;
    // the hub's client puts its address into errors, HF_ENDPOINT's password with it
    const reason = withoutSecrets(cause instanceof Error ? cause.message : String(cause));
    if (last === undefined) {
      throw new TypeError(`Cannot fetch ${owner}/${name} from the hub: ${reason}`, { cause });
    }
    options.notice(
      `${owner}/${name} is used as of commit ${
        last.slice(0, 8)
      }; whether '${revision}' has moved ` +
        `cannot be told: ${reason}`,
    );
    return modelIn(cached.directory(last), options);
  }
}

/** A repository's commits on disk, and which of them a branch was last. */
class CachedModel {
  readonly #model: HubModel;
  readonly #root: string;
  readonly #ref: string;

  constructor(model: HubModel, cache: string) {
    this.#model = model;
    this.#root = `${cache}/hf/${model.owner}`;
    // no commit is called so
    this.#ref = `${this.#root}/refs/${model.name}/${model.revision}`;
  }

  directory(commit: string): string {
    return `${this.#root}/${commit}/${this.#model.name}`;
  }

  /** The last commit that is here whole. */
  async last(): Promise<string | undefined> {
    const { revision } = this.#model;
    const commit = isCommit(revision) ? revision : await readIfThere(this.#ref);
    return commit !== undefined && await exists(this.directory(commit)) ? commit : undefined;
  }

  async remember(commit: string): Promise<void> {
    if (!isCommit(this.#model.revision)) await writeAtomically(this.#ref, commit);
  }
}

function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

async function readIfThere(path: string): Promise<string | undefined> {
  return await exists(path) ? await Deno.readTextFile(path) : undefined;
}

/** The commit that a branch or tag is at now. */
async function commitOf(
  model: HubModel,
  last: string | undefined,
  options: HubOptions,
): Promise<string> {
  if (isCommit(model.revision)) return model.revision;
  const { modelInfo } = await import("@huggingface/hub");
  const { repo, ...request } = requestOf(model, options, last === undefined ? undefined : CHECK_MS);
  const { sha } = await modelInfo({ ...request, name: repo.name, additionalFields: ["sha"] });
  if (isCommit(sha)) return sha;
  throw new TypeError(`it names no commit for '${model.revision}'`);
}

function modelIn(directory: string, { choose }: HubOptions): string {
  const names = Array.from(Deno.readDirSync(directory), (entry) => entry.name);
  const { gguf } = choose(directory, names);
  return gguf === undefined ? directory : `${directory}/${gguf}`;
}

async function fetchModel(model: HubModel, into: string, options: HubOptions): Promise<void> {
  const request = requestOf(model, options);
  const files = await listRemote(request);
  const { names } = options.choose(
    `${model.owner}/${model.name}`,
    files.map(({ path }) => path),
  );
  for (const file of files.filter(({ path }) => names.includes(path))) {
    const target = `${into}/${placeOf(file.path)}`;
    await Deno.mkdir(dirname(target), { recursive: true });
    await fetchFile(request, file, target, options.progress);
  }
}

function requestOf(
  { owner, name, revision }: HubModel,
  { env, signal: stop }: HubOptions,
  within?: number,
): HubRequest {
  const hubUrl = env("HF_ENDPOINT");
  const accessToken = env("HF_TOKEN");
  return {
    repo: { type: "model", name: `${owner}/${name}` },
    revision,
    ...(hubUrl ? { hubUrl } : {}),
    ...(accessToken ? { accessToken } : {}),
    fetch: (input, init) => {
      const ends = within === undefined ? [] : [AbortSignal.timeout(within)];
      if (stop !== undefined) ends.push(stop);
      return fetch(input, { ...init, signal: AbortSignal.any(ends) });
    },
  };
}

/** The files at the repository's top, and those of sentence-transformers' modules. */
async function listRemote(request: HubRequest): Promise<readonly RemoteFile[]> {
  const { listFiles } = await import("@huggingface/hub");
  const files: RemoteFile[] = [];
  const modules: string[] = [];
  const list = async (folder: { readonly path?: string }) => {
    const listed = listFiles({ ...request, ...folder, recursive: false });
    for await (const { type, path, size, lfs } of listed) {
      if (type === "file") files.push({ path, size: lfs?.size ?? size, sha256: lfs?.oid });
      else if (/^\d+_\w+$/.test(path)) modules.push(path);
    }
  };
  await list({});
  for (const path of modules.splice(0)) await list({ path });
  return files;
}

/** Appends what is missing to what an earlier try has left. */
async function fetchFile(
  request: HubRequest,
  file: RemoteFile,
  target: string,
  progress: Progress,
): Promise<void> {
  const { downloadFile } = await import("@huggingface/hub");
  using out = await Deno.open(target, { create: true, write: true, read: true });
  let done = (await out.stat()).size;
  if (done > file.size) await out.truncate(done = 0);
  await out.seek(done, Deno.SeekMode.Start);
  if (done < file.size) {
    const blob = await downloadFile({ ...request, path: file.path });
    if (blob === null) throw new TypeError(`'${file.path}' has gone`);
    for await (const chunk of blob.slice(done, file.size).stream()) {
      for (let at = 0; at < chunk.length;) at += await out.write(chunk.subarray(at));
      done += chunk.length;
      progress(file.path, done, file.size);
    }
  }
  await checkFile(out, file, done);
}

/** A damaged file is emptied, so that the next try starts afresh. */
async function checkFile(out: Deno.FsFile, file: RemoteFile, done: number): Promise<void> {
  if (done < file.size) {
    throw new TypeError(`'${file.path}' stopped after ${done} of ${file.size} bytes`);
  }
  const digest = file.sha256 === undefined ? undefined : await sha256Of(out);
  if (done === file.size && digest === file.sha256) return;
  await out.truncate(0);
  throw new TypeError(
    `'${file.path}' is damaged: ${done} bytes with SHA-256 ${digest ?? "unknown"}, ` +
      `the hub says ${file.size} with ${file.sha256 ?? "unknown"}`,
  );
}

async function sha256Of(file: Deno.FsFile): Promise<string> {
  await file.seek(0, Deno.SeekMode.Start);
  const hash = createHash("sha256");
  const buffer = new Uint8Array(1 << 20);
  for (let n = await file.read(buffer); n !== null; n = await file.read(buffer)) {
    hash.update(buffer.subarray(0, n));
  }
  return hash.digest("hex");
}
