/**
 * What the soak asks for, step by step. Pure and seeded: the same options give the same steps. The
 * shares of the kinds are in one table; lengths are short, so that thousands of requests pass.
 */
import { type Random, seededRandom } from "../workload.ts";
import { SCHEMAS, sentence, shared } from "./texts.ts";

/** One request to the model, or to what is around it. */
export interface Ask {
  readonly type: "ask";
  /** Undefined = the administrator's. */
  readonly tenant: string | undefined;
  readonly path: string;
  /** Undefined = GET. */
  readonly body: unknown;
  /** Whether the server is to refuse it: with a status 4xx. */
  readonly refused: boolean;
  /** Events of its stream after which the client goes away. */
  readonly leavesAfter?: number;
}

/** A tenant's core, loaded again in place from file number `file`. */
export interface Reload {
  readonly type: "reload";
  readonly tenant: string;
  readonly file: number;
}

/** A core of one more factor set is put, asked and removed. */
export interface Visit {
  readonly type: "visit";
  readonly tenant: string;
  readonly set: number;
  readonly name: string;
  readonly asks: readonly Ask[];
}

export type Step = Ask | Reload | Visit;

export interface StepOptions {
  readonly seed: number;
  readonly base: string;
  readonly tenants: readonly string[];
  /** Core files that may be loaded in place. */
  readonly files: number;
  readonly sets: number;
  readonly schemas: number;
}

/** Requests that a step makes. */
export function requestsOf(step: Step): number {
  return step.type === "visit" ? step.asks.length + 2 : 1;
}

/** The name of every tenant's own core. */
export const CORE = "main";

/** Tokens of prompts avoid the vocabulary's ends. */
const TOKENS = [1000, 48000] as const;
/** How many steps of a thousand are of each kind. */
const SHARES = {
  chat: 230,
  tokens: 180,
  long: 15,
  prefix: 160,
  core: 200,
  schema: 55,
  leave: 70,
  reload: 20,
  visit: 5,
  refused: 35,
  around: 30,
} as const;
type Kind = keyof typeof SHARES;
const TOTAL = Object.values<number>(SHARES).reduce((sum, share) => sum + share);

/** Steps without end; as many requests with a new schema come first. */
export function* planSoak(options: StepOptions): Generator<Step> {
  const plan = new Plan(options);
  for (let i = 0; i < options.schemas; i++) yield plan.newSchema();
  while (true) yield plan.next();
}

class Plan {
  readonly #options: StepOptions;
  readonly #random: Random;
  #count = 0;

  constructor(options: StepOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed);
  }

  next(): Step {
    this.#count++;
    return this.#step(this.#kind(), this.#one(this.#options.tenants));
  }

  newSchema(): Step {
    this.#count++;
    return this.#schema(this.#one(this.#options.tenants), "new");
  }

  #step(kind: Kind, tenant: string): Step {
    const { base, files, sets } = this.#options;
    switch (kind) {
      case "chat":
        return this.#chat(tenant, { stream: this.#random() < 0.5 });
      case "tokens":
        return this.#completion(tenant, { prompt: this.#tokens(4, 60) });
      case "long":
        return this.#completion(tenant, { prompt: this.#tokens(200, 1200) });
      case "prefix":
        return this.#prefixed(tenant);
      case "core":
        return this.#chat(tenant, { model: `${tenant}/${CORE}`, stream: this.#random() < 0.5 });
      case "schema":
        return this.#schema(tenant, this.#random() < 1 / 8 ? "new" : "known");
      case "leave":
        return { ...this.#chat(tenant, { stream: true, "max_tokens": 64 }), leavesAfter: 2 };
      case "reload":
        return { type: "reload", tenant, file: this.#whole(0, files - 1) };
      case "visit":
        return this.#visit(tenant, this.#whole(0, sets - 1));
      case "refused":
        return this.#one(refusals(tenant, base));
      case "around":
        return this.#one(around(tenant, this.#sentence(12)));
    }
  }

  #kind(): Kind {
    let left = this.#random() * TOTAL;
    const kinds = Object.entries(SHARES) as [Kind, number][];
    return kinds.find(([, share]) => (left -= share) < 0)?.[0] ?? "chat";
  }

  #chat(tenant: string, fields: object): Ask {
    const messages = [{ role: "user", content: this.#sentence(this.#whole(2, 24)) }];
    return ask(tenant, "/v1/chat/completions", {
      model: this.#options.base,
      messages,
      "max_tokens": this.#whole(1, 12),
      ...this.#sampling(),
      ...fields,
    });
  }

  #completion(tenant: string, fields: object): Ask {
    return ask(tenant, "/v1/completions", {
      model: this.#options.base,
      "max_tokens": this.#whole(1, 8),
      ...this.#sampling(),
      ...fields,
    });
  }

  /** A tenant's own long beginning, then a few words, for the base or for its core. */
  #prefixed(tenant: string): Ask {
    const { base, tenants } = this.#options;
    const beginning = shared(tenants.indexOf(tenant));
    const model = this.#random() < 0.5 ? base : `${tenant}/${CORE}`;
    const n = this.#random() < 0.1 ? 2 : 1;
    return this.#completion(tenant, { model, n, prompt: `${beginning} ${this.#sentence(8)}` });
  }

  #schema(tenant: string, which: "new" | "known"): Ask {
    const known = this.#one(SCHEMAS);
    const name = `answer_${this.#count}`;
    const schema = which === "new"
      ? { ...known, properties: { ...known.properties, [name]: { type: "boolean" } } }
      : known;
    const format = { type: "json_schema", "json_schema": { name: "answer", strict: true, schema } };
    return this.#chat(tenant, { "response_format": format });
  }

  #visit(tenant: string, set: number): Visit {
    const name = `guest-${this.#count}`;
    const asks = [1, 2].map(() => this.#chat(tenant, { model: `${tenant}/${name}` }));
    return { type: "visit", tenant, set, name, asks };
  }

  #sampling(): object {
    const drawn = this.#random();
    if (drawn < 0.5) return { temperature: 0 };
    if (drawn < 0.8) return { temperature: 0.8, "top_p": 0.9 };
    return { temperature: 1, "top_k": 40, "frequency_penalty": 0.2 };
  }

  #tokens(least: number, most: number): number[] {
    return Array.from({ length: this.#whole(least, most) }, () => this.#whole(...TOKENS));
  }

  #sentence(words: number): string {
    return sentence(words, this.#random);
  }

  #whole(least: number, most: number): number {
    return least + Math.floor(this.#random() * (most - least + 1));
  }

  #one<T>(of: readonly T[]): T {
    return of[Math.floor(this.#random() * of.length)] as T;
  }
}

function ask(tenant: string | undefined, path: string, body: unknown): Ask {
  return { type: "ask", tenant, path, body, refused: false };
}

/** Requests that cannot be, each in another way. */
function refusals(tenant: string, model: string): readonly Ask[] {
  const messages = [{ role: "user", content: "Hello" }];
  const bodies: readonly (readonly [string, unknown])[] = [
    ["/v1/chat/completions", { model, messages, temperature: -1 }],
    ["/v1/chat/completions", { model, messages, "max_tokens": 0 }],
    ["/v1/chat/completions", { model: `${tenant}/nothing`, messages }],
    ["/v1/chat/completions", { model, messages: [] }],
    ["/v1/completions", { model, prompt: [10_000_000], "max_tokens": 1 }],
    ["/v1/completions", { model, prompt: new Array(9000).fill(1000), "max_tokens": 1 }],
    ["/v1/load_lora_adapter", { "lora_name": `${tenant}/none`, "lora_path": "none.safetensors" }],
    ["/v1/cores/none", { cores: "bm90IGEgY29yZQ==" }],
  ];
  return bodies.map(([path, body]) => ({ ...ask(tenant, path, body), refused: true }));
}

/** What clients ask besides answers. */
function around(tenant: string, prompt: string): readonly Ask[] {
  return [
    ask(tenant, "/v1/models", undefined),
    ask(tenant, "/v1/cores", undefined),
    ask(undefined, "/metrics", undefined),
    ask(tenant, "/tokenize", { prompt }),
    ask(tenant, "/detokenize", { tokens: [1000, 2000, 3000] }),
  ];
}
