/**
 * A server context without weights: a byte tokenizer, an engine that says a given text one byte a
 * step, and a catalogue in memory. For the HTTP layer's own tests; the engine's behaviour is tested
 * with the engine.
 */
import type { ChatTemplate, SamplingDefaults, Tokenizer } from "../../src/checkpoint/checkpoint.ts";
import type { ReasoningFormat } from "../../src/calls/reasoning.ts";
import type { EngineStats } from "../../src/engine/metrics.ts";
import type {
  Generation,
  GenerationDelta,
  GenerationRequest,
  ServedCore,
} from "../../src/engine/request/request.ts";
import type { LoadedCore } from "../../adapters/catalog/directory.ts";
import type { RequestCore } from "../../adapters/catalog/registry.ts";
import type { CoreCatalog, GenerationEngine, ServerContext } from "../../server/context.ts";
import { FieldError, FieldRangeError } from "../../src/util/errors.ts";
import { adapter } from "../fakes/adapters.ts";
import { Lifecycle } from "../../server/serve.ts";
import { createLog } from "../../server/telemetry/log.ts";
import { createMetrics } from "../../server/telemetry/metrics.ts";

const EOS = 256;

/** Ids 0–255 are bytes, 256 is the end of text. */
export const byteTokenizer: Tokenizer = {
  vocabSize: 257,
  leastTokens: (text) => new TextEncoder().encode(text).length,
  encode: (text) => [...new TextEncoder().encode(text)],
  decode: (ids) => new TextDecoder().decode(new Uint8Array(ids.filter((id) => id < EOS))),
  tokenBytes: (id) => id < EOS ? new Uint8Array([id]) : new Uint8Array(),
  tokenText: (id) => id < EOS ? `<0x${id.toString(16).padStart(2, "0")}>` : "<eos>",
  tokenId: (text) => text === "<eos>" ? EOS : undefined,
  isSpecial: (id) => id === EOS,
};

const plainTemplate: ChatTemplate = {
  source: "",
  render: (messages, options) => {
    if (messages[0]?.role === "assistant") throw new TypeError("it must begin with the user");
    const turns = messages.map(({ role, content }) => `<${role}>${content}</${role}>`).join("");
    return turns + (options?.addGenerationPrompt ? "<assistant>" : "");
  },
};

/** An engine that answers every request with `reply`, one byte a step. */
export class FakeEngine implements GenerationEngine {
  readonly maxContext = 200;
  readonly requests: GenerationRequest[] = [];
  running = 0;
  aborted = 0;
  /** What a request is answered with. */
  reply: (request: GenerationRequest) => string = () => "Hello, world";
  /** Awaited before each step. */
  pace: () => Promise<void> = () => Promise.resolve();
  /** Thrown by `generateAll`. */
  refusal: Error | undefined;
  /** Thrown by the iteration before this step. */
  failure: { readonly step: number; readonly error: Error } | undefined;

  generateAll(requests: readonly GenerationRequest[]): Generation[] {
    return requests.map((request) => this.#generate(request));
  }

  #generate(request: GenerationRequest): Generation {
    if (this.refusal !== undefined) throw this.refusal;
    this.requests.push(request);
    const usage = { promptTokens: request.prompt.length, completionTokens: 0, cachedTokens: 0 };
    const promptLogprobs = request.promptLogprobs === undefined
      ? undefined
      : request.prompt.slice(1).map((token) => ({
        ...{ token, logprob: -token / 100, rank: 3 },
        top: [{ token: 65, logprob: -0.5 }, { token: 66, logprob: -0.75 }]
          .slice(0, request.promptLogprobs),
      }));
    const times = { arrived: 100, admitted: 105, firstToken: 125, lastToken: 185 };
    return {
      usage,
      times,
      promptLogprobs,
      [Symbol.asyncIterator]: () => this.#steps(request, usage),
    };
  }

  async *#steps(
    request: GenerationRequest,
    usage: { completionTokens: number },
  ): AsyncGenerator<GenerationDelta> {
    const bytes = [...new TextEncoder().encode(this.reply(request))];
    const count = Math.min(bytes.length, request.sampling.maxTokens ?? Infinity);
    if (count === 0) {
      for (let index = 0; index < request.n; index++) yield delta(request, index, [], "length");
      return;
    }
    this.running++;
    const abort = () => void this.aborted++;
    request.signal?.addEventListener("abort", abort);
    try {
      for (let step = 0; step < count; step++) {
        await this.pace();
        if (this.failure?.step === step) throw this.failure.error;
        if (request.signal?.aborted) return yield delta(request, 0, [], "abort");
        const last = step + 1 === count;
        const reason = !last ? undefined : count < bytes.length ? "length" : "stop";
        for (let index = 0; index < request.n; index++) {
          usage.completionTokens++;
          yield delta(request, index, bytes.slice(step, step + 1), reason);
        }
      }
    } finally {
      request.signal?.removeEventListener("abort", abort);
      this.running--;
    }
  }

  stats(): EngineStats {
    return {
      running: this.running,
      waiting: 0,
      loading: 0,
      kvBytes: 0,
      kvBytesSpare: 0,
      kvBytesCached: 0,
      kvBudget: 1,
      kvUsage: 0.25,
      promptTokens: 7,
      cachedTokens: 0,
      generationTokens: 11,
      finished: { stop: 3, length: 0, abort: this.aborted, error: 0 },
      rejected: 0,
      preemptions: 0,
      prefixQueriedTokens: 0,
      prefixHitTokens: 0,
      prefillRuns: 0,
      decodeRuns: 0,
      jumpRuns: 0,
      foreseenTokens: 0,
      jumpedTokens: 0,
      adapters: new Map([["ada/haiku@1", { running: 1, waiting: 0 }]]),
      lanes: { loaded: 2, bytes: 3 << 20, loads: 5, evictions: 4 },
    };
  }
}

function delta(
  request: GenerationRequest,
  index: number,
  tokens: readonly number[],
  finishReason: GenerationDelta["finishReason"],
): GenerationDelta {
  const { logprobs } = request.sampling;
  return {
    index,
    text: new TextDecoder().decode(new Uint8Array(tokens)),
    tokens,
    logprobs: logprobs === undefined ? undefined : tokens.map((token) => ({
      token,
      logprob: -0.5,
      top: Array.from({ length: logprobs }, (_, k) => ({ token: token + k, logprob: -0.5 - k })),
    })),
    finishReason,
    stopReason: undefined,
  };
}

/** A catalogue in memory that "loads" paths by their spelling. */
export class FakeCatalog implements CoreCatalog {
  readonly cores = new Map<string, ServedCore>();
  /** Inline cores not yet disposed. */
  held = 0;

  add(name: string): ServedCore {
    const core = adapter(`${name}@1`, "f".repeat(64));
    this.cores.set(name, core);
    return core;
  }

  list(): Promise<ServedCore[]> {
    return Promise.resolve([...this.cores.values()]);
  }

  loaded(): readonly ServedCore[] {
    return [...this.cores.values()];
  }

  async find(name: string): Promise<ServedCore | undefined> {
    const own = this.cores.get(name);
    if (own !== undefined) return own;
    const found = (await this.list()).filter((core) =>
      core.name === name || core.model.split("/")[1] === name
    );
    if (found.length < 2) return found[0];
    throw new FieldRangeError("model", `ambiguous: ${found.map(({ model }) => model).join(", ")}`);
  }

  loadPath(name: string, path: string): Promise<LoadedCore> {
    if (path === "foreign") throw new FieldError("core", "base digest aa is not bb");
    if (path === "bug") throw new TypeError("undefined is not a function");
    const residual = new Map([["lora", 0.0123], ["lossy", 0.94]]).get(path);
    return Promise.resolve({ core: this.add(name), residual });
  }

  checkLora(): void {}

  loraFile(): never {
    throw new Error("the fake catalogue has no base");
  }

  async unload(name: string): Promise<void> {
    const core = await this.find(name);
    if (core !== undefined) this.cores.delete(core.model);
  }

  inline(_tenant: string, base64: string): RequestCore {
    if (base64.length < 8) throw new FieldError("core", "a core of 3 bytes");
    this.held++;
    return { core: adapter("inline"), [Symbol.dispose]: () => void this.held-- };
  }
}

export interface FakeOptions extends Partial<ServerContext["options"]> {
  readonly sampling?: SamplingDefaults;
  readonly reasoning?: ReasoningFormat;
}

export interface FakeContext extends ServerContext {
  readonly engine: FakeEngine;
  readonly adapters: FakeCatalog;
  readonly lines: string[];
}

export function fakeContext(
  { sampling = {}, reasoning, ...options }: FakeOptions = {},
): FakeContext {
  const engine = new FakeEngine();
  const metrics = createMetrics();
  metrics.attach({ model: "tiny", stats: () => engine.stats() });
  const lines: string[] = [];
  return {
    engine,
    adapters: new FakeCatalog(),
    model: {
      id: "tiny",
      root: "/models/tiny",
      created: 1_700_000_000,
      digest: "ab".repeat(32),
      dtype: "int8",
      weightTypes: ["Q4_K", "Q6_K"],
      ...{ bosTokenId: undefined, eosTokenIds: [2] },
      device: "cpu",
      vocabSize: byteTokenizer.vocabSize,
      tokenizer: byteTokenizer,
      chatTemplate: plainTemplate,
      sampling,
      reasoning,
    },
    options: { apiKey: undefined, maxBody: 100_000, version: "0.0.0", ...options },
    metrics,
    log: createLog("info", (line) => lines.push(line)),
    lifecycle: new Lifecycle(),
    lines,
  };
}
