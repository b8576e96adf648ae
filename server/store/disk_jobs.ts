/**
 * Jobs in the data directory: `jobs/<id>/` with `job.json`, `events.jsonl`, `progress` and
 * `checkpoints/`. It owns their files and the lists in memory; which status follows which it does
 * not know.
 */
import type { Log } from "../log.ts";
import { removeIfThere, syncDirectory, writeAtomically } from "../../src/checkpoint/cache.ts";
import {
  type DataDirectory,
  ifThere,
  readRecord,
  readSealed,
  writeRecord,
  writeSealed,
} from "./data_directory.ts";
import { EventFile } from "./disk_events.ts";
import { newId, nextTime } from "./ids.ts";
import { pageOf } from "./page.ts";
import type { CheckpointRecord, JobEvent, JobRecord, JobStore, Page, PageQuery } from "./store.ts";

const FOLDER = "jobs";
const CHECKPOINTS = "checkpoints";
/** Checkpoints that a job keeps; OpenAI keeps three. */
const MAX_CHECKPOINTS = 8;

interface Held {
  job: JobRecord;
  /** By step, oldest first. */
  checkpoints: readonly CheckpointRecord[];
  readonly events: EventFile;
}

export class DiskJobStore implements JobStore {
  readonly #directory: DataDirectory;
  readonly #log: Log;
  /** By id, oldest first. */
  readonly #jobs = new Map<string, Held>();

  private constructor(directory: DataDirectory, log: Log) {
    this.#directory = directory;
    this.#log = log;
  }

  /** Reads all records; a damaged one is set aside. */
  static async open(directory: DataDirectory, log: Log): Promise<DiskJobStore> {
    const store = new DiskJobStore(directory, log);
    const jobs: JobRecord[] = [];
    for (const id of await directory.names(FOLDER)) {
      try {
        const job = await readRecord(directory.path(FOLDER, id, "job.json")) as JobRecord;
        if (job.id !== id) throw new TypeError(`its record is of ${job.id}`);
        jobs.push(job);
      } catch (error) {
        await directory.setAside([FOLDER, id], error);
      }
    }
    for (const job of jobs.sort((a, b) => a.createdAt - b.createdAt)) {
      store.#hold(job, await store.#readCheckpoints(job.id));
    }
    return store;
  }

  async create(fields: Omit<JobRecord, "id" | "createdAt">): Promise<JobRecord> {
    const last = [...this.#jobs.values()].at(-1)?.job.createdAt ?? 0;
    const job = { id: newId("ftjob"), createdAt: nextTime(last), ...fields };
    // listed before it is durable, so that no two get one time; no one knows its id yet
    this.#hold(job, []);
    try {
      await writeRecord(this.#path(job.id, "job.json"), job);
      await syncDirectory(this.#directory.path(FOLDER));
    } catch (error) {
      this.#jobs.delete(job.id);
      throw error;
    }
    return job;
  }

  async update(job: JobRecord): Promise<void> {
    const held = this.#held(job.id);
    await writeRecord(this.#path(job.id, "job.json"), job);
    held.job = job;
  }

  find(id: string): Promise<JobRecord | undefined> {
    return Promise.resolve(this.#jobs.get(id)?.job);
  }

  async list(
    query: PageQuery & { readonly metadata: JobRecord["metadata"] | undefined },
  ): Promise<Page<JobRecord>> {
    const jobs = await this.all();
    return pageOf(jobs.filter((job) => hasMetadata(job, query.metadata)), query);
  }

  all(): Promise<readonly JobRecord[]> {
    return Promise.resolve([...this.#jobs.values()].map(({ job }) => job));
  }

  addEvents(jobId: string, events: readonly JobEvent[]): Promise<void> {
    return this.#held(jobId).events.append(events);
  }

  events(jobId: string, query: PageQuery): Promise<Page<JobEvent>> {
    return this.#held(jobId).events.page(query);
  }

  saveProgress(jobId: string, bytes: Uint8Array): Promise<void> {
    return writeSealed(this.#path(jobId, "progress"), bytes);
  }

  async progress(jobId: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    try {
      return await ifThere(readSealed(this.#path(jobId, "progress")));
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      await this.#directory.setAside([FOLDER, jobId, "progress"], error);
      return undefined;
    }
  }

  dropProgress(jobId: string): Promise<void> {
    return removeIfThere(this.#path(jobId, "progress"));
  }

  async addCheckpoint(checkpoint: CheckpointRecord, core: Uint8Array): Promise<void> {
    const { jobId, step } = checkpoint;
    const held = this.#held(jobId);
    await writeAtomically(this.#path(jobId, CHECKPOINTS, `${step}.safetensors`), core);
    await writeRecord(this.#path(jobId, CHECKPOINTS, `${step}.json`), checkpoint);
    const others = held.checkpoints.filter((other) => other.step !== step);
    const all = [...others, checkpoint].sort((a, b) => a.step - b.step);
    held.checkpoints = all.slice(-MAX_CHECKPOINTS);
    for (const old of all.slice(0, -MAX_CHECKPOINTS)) {
      await removeIfThere(this.#path(jobId, CHECKPOINTS, `${old.step}.json`));
      await removeIfThere(this.#path(jobId, CHECKPOINTS, `${old.step}.safetensors`));
    }
  }

  checkpoints(jobId: string): Promise<readonly CheckpointRecord[]> {
    return Promise.resolve(this.#held(jobId).checkpoints.toReversed());
  }

  async checkpointCore({ jobId, step }: CheckpointRecord): Promise<Uint8Array<ArrayBuffer>> {
    const path = this.#path(jobId, CHECKPOINTS, `${step}.safetensors`);
    const bytes = await ifThere(Deno.readFile(path));
    if (bytes !== undefined) return bytes;
    throw new RangeError(`Cannot read checkpoint ${step} of ${jobId}: it was dropped`);
  }

  async #readCheckpoints(id: string): Promise<CheckpointRecord[]> {
    const found: CheckpointRecord[] = [];
    const names = await this.#directory.names(FOLDER, id, CHECKPOINTS);
    for (const name of names.filter((one) => one.endsWith(".json"))) {
      try {
        const path = this.#path(id, CHECKPOINTS, name);
        found.push(await readRecord(path) as CheckpointRecord);
      } catch (error) {
        await this.#directory.setAside([FOLDER, id, CHECKPOINTS, name], error);
      }
    }
    return found.sort((a, b) => a.step - b.step);
  }

  #hold(job: JobRecord, checkpoints: readonly CheckpointRecord[]): void {
    const events = new EventFile(this.#path(job.id, "events.jsonl"), this.#log);
    this.#jobs.set(job.id, { job, checkpoints, events });
  }

  #held(id: string): Held {
    const held = this.#jobs.get(id);
    if (held === undefined) throw new RangeError(`Cannot find job ${id}: there is none`);
    return held;
  }

  #path(...parts: readonly string[]): string {
    return this.#directory.path(FOLDER, ...parts);
  }
}

function hasMetadata(job: JobRecord, wanted: JobRecord["metadata"] | undefined): boolean {
  if (wanted === undefined) return true;
  if (wanted === null) return job.metadata === null;
  return Object.entries(wanted).every(([key, value]) => job.metadata?.[key] === value);
}
