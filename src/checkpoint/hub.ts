/**
 * Models from the Hugging Face hub, through @huggingface/hub: only the files a decoder needs,
 * continued where an earlier try stopped, checked against the hub's own SHA-256. It knows no pip.
 */

import { createHash } from "node:crypto";
import { createOnce, type Environment } from "./cache.ts";
import { baseName, chooseModelFiles } from "./model_files.ts";
import type { Progress } from "./progress.ts";
import { withoutSecrets } from "./secrets.ts";

export interface HubModel {
  readonly owner: string;
  readonly name: string;
  readonly revision: string;
}

export interface HubOptions {
  /** Repositories are kept in directories under this one. */
  readonly cache: string;
  readonly progress: Progress;
  /** `HF_ENDPOINT` names another hub, `HF_TOKEN` opens gated models. */
  readonly env: Environment;
  readonly signal: AbortSignal | undefined;
}

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
 * The path of the repository's model: its one GGUF, or the directory of its safetensors. It is
 * fetched once and then found in the cache.
 *
 * @throws {TypeError} where the hub cannot be reached, has no such model, or sends damaged files
 */
export async function resolveHub(model: HubModel, options: HubOptions): Promise<string> {
  const { owner, name, revision } = model;
  const directory = `${options.cache}/hf/${owner}/${revision}/${name}`;
  try {
    await createOnce(directory, (partial) => fetchModel(model, partial, options));
  } catch (cause) {
    options.signal?.throwIfAborted();
    // the hub's client puts its address into errors, HF_ENDPOINT's password with it
    const reason = withoutSecrets(cause instanceof Error ? cause.message : String(cause));
    throw new TypeError(`Cannot fetch ${owner}/${name} from the hub: ${reason}`, { cause });
  }
  const names = Array.from(Deno.readDirSync(directory), (entry) => entry.name);
  const { gguf } = chooseModelFiles(directory, names);
  return gguf === undefined ? directory : `${directory}/${gguf}`;
}

async function fetchModel(model: HubModel, into: string, options: HubOptions): Promise<void> {
  const request = requestOf(model, options);
  const files = await listRemote(request);
  const { names } = chooseModelFiles(`${model.owner}/${model.name}`, files.map(({ path }) => path));
  for (const file of files.filter(({ path }) => names.includes(path))) {
    await fetchFile(request, file, `${into}/${baseName(file.path)}`, options.progress);
  }
}

function requestOf({ owner, name, revision }: HubModel, { env, signal }: HubOptions): HubRequest {
  const hubUrl = env("HF_ENDPOINT");
  const accessToken = env("HF_TOKEN");
  return {
    repo: { type: "model", name: `${owner}/${name}` },
    revision,
    ...(hubUrl ? { hubUrl } : {}),
    ...(accessToken ? { accessToken } : {}),
    fetch: (input, init) => fetch(input, { ...init, signal: signal ?? null }),
  };
}

/** The files at the repository's top. */
async function listRemote(request: HubRequest): Promise<readonly RemoteFile[]> {
  const { listFiles } = await import("@huggingface/hub");
  const files: RemoteFile[] = [];
  for await (const { type, path, size, lfs } of listFiles({ ...request, recursive: false })) {
    if (type === "file") files.push({ path, size: lfs?.size ?? size, sha256: lfs?.oid });
  }
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
