/**
 * What the routes work with: engine, model, catalogue, limits, log, and what a server may or may
 * not have, and what belongs to one request. Tests hand in their own.
 */
import type { MeasuredQuality } from "../adapters/quality.ts";
import type { TenantData } from "../adapters/store/store.ts";
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import type { ChatTemplate, SamplingDefaults, Tokenizer } from "../src/checkpoint/checkpoint.ts";
import type { CallFormat } from "../src/calls/formats.ts";
import type { ReasoningFormat } from "../src/calls/reasoning.ts";
import type { EncoderModel } from "../adapters/encoder_model.ts";
import type { Catalog } from "../adapters/catalog/catalog.ts";
import type { Engine } from "../src/engine/engine.ts";
import type { Access, BatchCall, Principal } from "./access/access.ts";
import type { Sealer } from "./access/sealing.ts";
import type { BatchRunner } from "./batches/runner.ts";
import type { FineTuning } from "./jobs/fine_tuning.ts";
import type { JsonBodies } from "./http/json_body.ts";
import type { JsonThread } from "./http/json_thread.ts";
import type { UnknownArguments } from "./http/unknown_arguments.ts";
import type { Lifecycle } from "./serve.ts";
import type { Log } from "./telemetry/log.ts";
import type { Metrics } from "./telemetry/metrics.ts";
import type { TextTurns } from "./generate/text_turns.ts";
import type { RequestTrace, Tracing } from "./telemetry/tracing.ts";
import type { Traffic } from "./telemetry/traffic.ts";
import type { AdminServices } from "./http/routes/admin_context.ts";
import type { Metering } from "./usage/metering.ts";

/** The part of the engine that the server uses. */
export type GenerationEngine = Pick<Engine, "generateAll" | "stats" | "maxContext">;

/** The base model as clients see it. */
export interface ServedModel {
  /** The checkpoint's own name, which records of jobs and usage have; requests may use it. */
  readonly id: string;
  /** Where it was loaded from (vLLM's `root`). */
  readonly root: string;
  /** The names that it is listed and answers under, the first one by default; default: its id. */
  readonly served?: readonly string[] | undefined;
  /** Names that requests may use as well. */
  readonly aliases?: readonly string[] | undefined;
  /** Unix seconds. */
  readonly created: number;
  /** SHA-256, hex. */
  readonly digest: string;
  /** What is served. */
  readonly dtype: string;
  /** Of the file's linears, those with most numbers first. */
  readonly weightTypes: readonly string[];
  /** What serving costs, where it was measured. */
  readonly quality?: MeasuredQuality | undefined;
  readonly device: string;
  readonly vocabSize: number;
  /** Ids of the tokens that begin and end texts. */
  readonly bosTokenId: number | undefined;
  readonly eosTokenIds: readonly number[];
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | undefined;
  /** How it writes tool calls; undefined = as its chat template says. */
  readonly callFormat?: CallFormat | undefined;
  /** How it marks reasoning; undefined = what it writes is its answer. */
  readonly reasoning?: ReasoningFormat | undefined;
  /** Sampling defaults, used where a request says nothing. */
  readonly sampling: SamplingDefaults;
  /** Where long texts are encoded and rendered; undefined = on the event loop. */
  readonly thread?: TextTurns | undefined;
}

/** The cores that requests may name. */
export type CoreCatalog = Pick<
  Catalog,
  "list" | "loaded" | "find" | "loadPath" | "unload" | "loraFile" | "checkLora" | "inline"
>;

/** An encoder as the routes use it: texts to tokens, tokens to vectors. */
export type ServedEncoder = Pick<
  EncoderModel,
  | "engine"
  | "maxTokens"
  | "dimensions"
  | "tokens"
  | "special"
  | "frameOne"
  | "framePair"
  | "finish"
  | "classify"
  | "labels"
>;

/** Limits and secrets of one server. */
export interface ServerOptions {
  /** An administrator's key. Without `access` it is the only key, and undefined means open mode. */
  readonly apiKey: string | undefined;
  /** Largest request body in bytes. */
  readonly maxBody: number;
  readonly version: string;
  /** Sequences that run at once, for llama.cpp's `/slots`; default: 1. */
  readonly maxBatch?: number;
  /** Who may read `/metrics`; default: administrators. */
  readonly metricsAccess?: "key" | "open";
  /** Host names beside loopback's that a server without keys answers to; default: none. */
  readonly allowedHosts?: readonly string[];
  /** Origins whose web pages may use the API; default: none. */
  readonly corsOrigins?: readonly string[];
  /** Whether arguments that no endpoint knows are refused; default: they are left out and named. */
  readonly strict?: boolean;
  /** Path below which it answers, too, e.g. `/llm`; default: none. */
  readonly rootPath?: string | undefined;
  /** Whether streams of completions tell the usage, asked or not; default: where asked. */
  readonly forceIncludeUsage?: boolean;
  /** Whether log probabilities name tokens by their ids where a request says nothing; default: no. */
  readonly tokensAsIds?: boolean;
  /** Whether whole answers and last chunks tell the times of a request; default: no. */
  readonly requestTimes?: boolean;
  /** Names of the base beside its own, the first one by default; default: none. */
  readonly servedModelNames?: readonly string[];
  /** How the model writes tool calls; default: as its chat template says. */
  readonly toolCallParser?: CallFormat | "auto";
  /** How the model marks its reasoning; default: what it writes is its answer. */
  readonly reasoningParser?: ReasoningFormat | "auto" | "none";
}

/** Something that must answer before the server is ready. */
export interface ReadinessCheck {
  /** A noun for its error: "store". */
  readonly name: string;
  readonly check: () => Promise<void>;
}

/** Everything the routes need. */
export interface ServerContext {
  readonly engine: GenerationEngine;
  readonly model: ServedModel;
  readonly adapters: CoreCatalog;
  /** What makes vectors of texts, where an encoder is served; undefined = a decoder is. */
  readonly encoder?: ServedEncoder | undefined;
  readonly options: ServerOptions;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly lifecycle: Lifecycle;
  /** Where long bodies are parsed; undefined = on the event loop. */
  readonly jsonThread?: JsonThread | undefined;
  /** What the console shows of the last minutes; undefined = nothing. */
  readonly traffic?: Traffic | undefined;
  /** Undefined = requests have no spans. */
  readonly tracing?: Tracing | undefined;
  /** Asked by `/ready`; the model is loaded before there is a context. */
  readonly readiness?: readonly ReadinessCheck[] | undefined;
  /** Who may come in; undefined = as `options.apiKey` says. */
  readonly access?: Access | undefined;
  /** What administrators and tenants manage; undefined = the server has no such endpoints. */
  readonly admin?: AdminServices | undefined;
  /** Tenants' limits and usage; undefined = nothing is limited and nothing recorded. */
  readonly metering?: Pick<Metering, "begin" | "count"> | undefined;
  /** Files, jobs and what they made; undefined = the server has no such endpoints. */
  readonly tuning?: FineTuning | undefined;
  /** Batches of requests; undefined = the server has no such endpoints. */
  readonly batches?: Pick<BatchRunner, "of" | "create" | "cancel"> | undefined;
  /** Where responses, chats and conversations are kept; undefined = none is. */
  readonly responses?: ResponseKeeping | undefined;
}

type KeptPart = "responses" | "chats" | "conversations";

export interface ResponseKeeping {
  readonly store: { forTenant(tenant: string): Pick<TenantData, KeptPart> };
  /** Seals what a tenant is to send back. */
  readonly sealer: Sealer;
  /** Days that a response is kept after it, or one that goes on from it, was made. */
  readonly days: number;
}

// ---- of one request ----

/** How a streamed answer ended. */
export type StreamEnd = "done" | "cancelled" | "failed";

/** What a handler adds to the request's line in the access log. */
export interface RequestNotes {
  model?: string;
  promptTokens?: number;
  completionTokens?: number;
  /** Headers of the answer, also of an error. */
  headers?: Readonly<Record<string, string>> | undefined;
  /** Arguments that were left out, as a header has them. */
  ignored?: string;
  /** Set by a streamed answer: the line is written when the stream has ended. */
  ended?: Promise<StreamEnd>;
}

/** Hono's environment of this app. */
export interface AppEnv {
  Bindings: { readonly batch?: BatchCall };
  Variables: {
    requestId: string;
    notes: RequestNotes;
    bodies: JsonBodies;
    unknown: UnknownArguments;
    trace: RequestTrace | undefined;
    /** Unset on open paths only. */
    principal: Principal;
  };
}
export type App = OpenAPIHono<AppEnv>;
export type AppContext = Context<AppEnv>;

/** Set where a request is a batch's line. */
export function batchCallOf(c: AppContext): BatchCall | undefined {
  // over HTTP a request has nothing beside it
  const beside: AppEnv["Bindings"] | undefined = c.env;
  return beside?.batch;
}

/** Who asks for a generation: the request, or what runs on when the request has been answered. */
export interface Asker {
  readonly principal: Principal;
  readonly requestId: string;
  readonly notes: RequestNotes;
  readonly trace: RequestTrace | undefined;
  /** Aborted when nobody wants the answer any more. */
  readonly signal: AbortSignal;
  /** Whether nobody waits for it: a batch's line. */
  readonly line: boolean;
  /** Called when the tenant's limits and the engine's queue have let it in. */
  readonly admitted?: () => void;
}

/** The request itself. */
export function askerOf(c: AppContext): Asker {
  return {
    principal: c.get("principal"),
    requestId: c.get("requestId"),
    notes: c.get("notes"),
    trace: c.get("trace"),
    signal: c.req.raw.signal,
    line: batchCallOf(c) !== undefined,
  };
}
