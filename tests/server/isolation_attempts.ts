// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * For each operation of `/openapi.json`, how another tenant would reach for the victim's things with
 * it, and what must come of that. An operation that is not here fails the suite: whoever adds one
 * says how it keeps tenants apart.
 */
import { CORE, MARKER, VICTIM, type Victim } from "./isolation_victim.ts";

export interface Attempt {
  readonly path: string;
  readonly json?: unknown;
  /** Statuses that keep the secret; 200 = an answer without a word of the victim. */
  readonly expected: readonly number[];
}

/** Attempts on one operation, `METHOD /path`. */
export type Attempts = Readonly<Record<string, (victim: Victim) => readonly Attempt[]>>;

const JOB = "/v1/fine_tuning/jobs/{fine_tuning_job_id}";
const KEYS = "/v1/admin/tenants/{tenant}/keys";

/** Names that stand for the victim's models. */
function models({ model, checkpoint, digest }: Victim): readonly string[] {
  const stored = [CORE, `${CORE}@1`, `${CORE}@${digest}`, "blimp"];
  return [...stored, ...stored.map((name) => `${VICTIM}/${name}`), model, checkpoint];
}

const none: Attempts[string] = () => [];

/** What lists, or adds up, shows nothing of others. */
function listing(path: string, more: (victim: Victim) => readonly Attempt[] = none) {
  return (victim: Victim): Attempt[] => [{ path, expected: [200] }, ...more(victim)];
}

function refused(path: string, json?: unknown) {
  return (): Attempt[] => [{ path, json, expected: [403] }];
}

function byModel(path: string, body: object, field = "model") {
  return (victim: Victim): Attempt[] =>
    models(victim).map((name) => ({ path, json: { ...body, [field]: name }, expected: [404] }));
}

function byJob(more: string) {
  return ({ job }: Victim): Attempt[] => [
    { path: `/v1/fine_tuning/jobs/${job}${more}`, expected: [404] },
  ];
}

function byFile(more = "") {
  return ({ file, result, requests, answers }: Victim): Attempt[] =>
    [file, result, requests, answers].map((id) => ({
      path: `/v1/files/${id}${more}`,
      expected: [404],
    }));
}

const RESPONSES = "/v1/responses";

function byResponse(more = "") {
  return ({ response }: Victim): Attempt[] => [
    { path: `${RESPONSES}/${response}${more}`, expected: [404] },
  ];
}

function compactionOf({ sealed }: Victim) {
  return { type: "compaction", encrypted_content: sealed };
}

/** What names another's response, an item of it, or what was sealed for another. */
function byEarlier(path: string) {
  return (victim: Victim): Attempt[] => [
    ...byModel(path, { input: "hello" })(victim),
    { path, json: { input: "hello", previous_response_id: victim.response }, expected: [400] },
    { path, json: { input: [{ type: "item_reference", id: victim.item }] }, expected: [404] },
    { path, json: { input: [compactionOf(victim)] }, expected: [400] },
  ];
}

const CONVERSATIONS = "/v1/conversations";

function byConversation(more: string, json?: unknown) {
  return ({ conversation }: Victim): Attempt[] => [
    { path: `${CONVERSATIONS}/${conversation}${more}`, json, expected: [404] },
  ];
}

function byItsConversation(path: string) {
  return ({ conversation }: Victim): Attempt[] => [
    { path, json: { input: "hello", conversation }, expected: [404] },
  ];
}

function byTurn({ conversation, turn }: Victim): Attempt[] {
  return [{ path: `${CONVERSATIONS}/${conversation}/items/${turn}`, expected: [404] }];
}

const CHATS = "/v1/chat/completions";

function byChat(more: string, json?: unknown) {
  return ({ chat }: Victim): Attempt[] => [
    { path: `${CHATS}/${chat}${more}`, json, expected: [404] },
  ];
}

function byCore(more: string, json?: unknown) {
  return (): Attempt[] =>
    [CORE, "blimp", `${VICTIM}/${CORE}`, `${VICTIM}%2F${CORE}`].map((name) => ({
      path: `/v1/cores/${name}${more}`,
      json,
      expected: [404],
    }));
}

/** LoRAX's way to another's adapter, and to files that nobody loaded. */
function byAdapterId(path: string) {
  const ids = [
    `${VICTIM}/${CORE}`,
    "blimp",
    `${VICTIM}/${CORE}.safetensors`,
    "../lembas.db",
    "/etc",
  ];
  return (): Attempt[] =>
    ids.flatMap((id) =>
      [undefined, "local", "hub"].map((source) => ({
        path,
        json: {
          inputs: "hello",
          parameters: { max_new_tokens: 1, adapter_id: id, adapter_source: source },
        },
        expected: [404],
      }))
    );
}

const CHAT = { messages: [{ role: "user", content: "hello" }], max_tokens: 1 };

function atEach(paths: readonly string[], body: object): Attempts {
  return Object.fromEntries(paths.map((path) => [`POST ${path}`, byModel(path, body)]));
}

export const ATTEMPTS: Attempts = {
  "POST /v1/chat/completions": byModel("/v1/chat/completions", CHAT),
  [`POST ${CHATS}/batch`]: byModel(`${CHATS}/batch`, { ...CHAT, messages: [CHAT.messages] }),
  [`GET ${CHATS}`]: listing(CHATS, ({ chat }) => [
    { path: `${CHATS}?after=${chat}`, expected: [400] },
    { path: `${CHATS}?metadata[word]=${MARKER}`, expected: [200] },
    { path: `${CHATS}?model=tiny`, expected: [200] },
  ]),
  [`GET ${CHATS}/{completion_id}`]: byChat(""),
  [`POST ${CHATS}/{completion_id}`]: byChat("", { metadata: {} }),
  [`DELETE ${CHATS}/{completion_id}`]: byChat(""),
  [`GET ${CHATS}/{completion_id}/messages`]: byChat("/messages"),
  "POST /invocations": (victim) => [
    ...byModel("/invocations", CHAT)(victim),
    ...byModel("/invocations", { prompt: "hello", max_tokens: 1 })(victim),
  ],
  "POST /v1/completions": byModel("/v1/completions", { prompt: "hello", max_tokens: 1 }),
  "POST /v1/embeddings": byModel("/v1/embeddings", { input: "hello" }),
  ...atEach(["/v1/score", "/score"], { text_1: "hello", text_2: "there" }),
  ...atEach(["/v1/rerank", "/rerank", "/v2/rerank"], { query: "hello", documents: ["there"] }),
  "POST /v1/messages": byModel("/v1/messages", CHAT),
  "POST /v1/messages/count_tokens": byModel("/v1/messages/count_tokens", {
    messages: CHAT.messages,
  }),
  "POST /completion": byModel("/completion", { prompt: "hello", n_predict: 1 }),
  "POST /generate": byAdapterId("/generate"),
  "POST /generate_stream": byAdapterId("/generate_stream"),
  "POST /apply-template": none,
  "POST /v1/chat/completions/input_tokens": none,
  "GET /props": none,
  "POST /v1/responses": (victim) => [
    ...byEarlier(RESPONSES)(victim),
    ...byItsConversation(RESPONSES)(victim),
  ],
  "POST /v1/responses/input_tokens": (victim) => [
    ...byEarlier(`${RESPONSES}/input_tokens`)(victim),
    ...byItsConversation(`${RESPONSES}/input_tokens`)(victim),
  ],
  "POST /v1/responses/compact": byEarlier(`${RESPONSES}/compact`),
  "GET /v1/responses/{response_id}": (victim) => [
    ...byResponse()(victim),
    ...byResponse("?stream=true")(victim),
  ],
  "DELETE /v1/responses/{response_id}": byResponse(),
  "GET /v1/responses/{response_id}/input_items": byResponse("/input_items"),
  "POST /v1/responses/{response_id}/cancel": byResponse("/cancel"),
  [`POST ${CONVERSATIONS}`]: ({ item }) => [
    {
      path: CONVERSATIONS,
      json: { items: [{ type: "item_reference", id: item }] },
      expected: [404],
    },
  ],
  [`GET ${CONVERSATIONS}/{conversation_id}`]: byConversation(""),
  [`POST ${CONVERSATIONS}/{conversation_id}`]: byConversation("", { metadata: {} }),
  [`DELETE ${CONVERSATIONS}/{conversation_id}`]: byConversation(""),
  [`GET ${CONVERSATIONS}/{conversation_id}/items`]: byConversation("/items"),
  [`POST ${CONVERSATIONS}/{conversation_id}/items`]: byConversation("/items", {
    items: [{ role: "user", content: "hello" }],
  }),
  [`GET ${CONVERSATIONS}/{conversation_id}/items/{item_id}`]: byTurn,
  [`DELETE ${CONVERSATIONS}/{conversation_id}/items/{item_id}`]: byTurn,
  "POST /tokenize": byModel("/tokenize", { prompt: "hello" }),
  "POST /detokenize": byModel("/detokenize", { tokens: [1] }),
  "GET /v1/models": listing("/v1/models"),
  "GET /v1/models/{model}": (victim) =>
    models(victim).flatMap((name) => [
      { path: `/v1/models/${name}`, expected: [404] },
      { path: `/v1/models/${encodeURIComponent(name)}`, expected: [404] },
    ]),
  "DELETE /v1/models/{model}": (victim) =>
    models(victim).map((name) => ({
      path: `/v1/models/${encodeURIComponent(name)}`,
      expected: [404],
    })),
  "POST /v1/load_lora_adapter": refused("/v1/load_lora_adapter", {
    lora_name: "mine",
    lora_path: `${VICTIM}/${CORE}.safetensors`,
  }),
  "POST /v1/unload_lora_adapter": refused("/v1/unload_lora_adapter", {
    lora_name: `${VICTIM}/${CORE}`,
  }),
  "POST /adapters": refused("/adapters", { name: "mine", src: `${VICTIM}/${CORE}.safetensors` }),
  "DELETE /adapters/{name}": refused(`/adapters/${VICTIM}%2F${CORE}`),
  "POST /v1/files": none,
  "GET /v1/files": listing("/v1/files", ({ file }) => [
    { path: `/v1/files?after=${file}`, expected: [400] },
  ]),
  "GET /v1/files/{file_id}": byFile(),
  "GET /v1/files/{file_id}/content": byFile("/content"),
  "DELETE /v1/files/{file_id}": byFile(),
  "POST /v1/uploads": none,
  "POST /v1/uploads/{upload_id}/parts": ({ upload }) => [
    { path: `/v1/uploads/${upload}/parts`, expected: [404] },
  ],
  "POST /v1/uploads/{upload_id}/complete": ({ upload, part }) => [
    { path: `/v1/uploads/${upload}/complete`, json: { part_ids: [part] }, expected: [404] },
  ],
  "POST /v1/uploads/{upload_id}/cancel": ({ upload }) => [
    { path: `/v1/uploads/${upload}/cancel`, expected: [404] },
  ],
  "POST /v1/batches": ({ requests, answers, file }) =>
    [requests, answers, file].map((input_file_id) => ({
      path: "/v1/batches",
      json: { input_file_id, endpoint: "/v1/completions", completion_window: "24h" },
      expected: [400],
    })),
  "GET /v1/batches": listing("/v1/batches", ({ batch }) => [
    { path: `/v1/batches?after=${batch}`, expected: [400] },
  ]),
  "GET /v1/batches/{batch_id}": ({ batch }) => [
    { path: `/v1/batches/${batch}`, expected: [404] },
  ],
  "POST /v1/batches/{batch_id}/cancel": ({ batch }) => [
    { path: `/v1/batches/${batch}/cancel`, expected: [404] },
  ],
  "POST /v1/fine_tuning/jobs": (victim) => {
    const path = "/v1/fine_tuning/jobs";
    const job = { model: "tiny", training_file: "FILE" };
    return [
      { path, json: { ...job, training_file: victim.file }, expected: [400] },
      { path, json: { ...job, training_file: victim.result }, expected: [400] },
      { path, json: { ...job, validation_file: victim.file }, expected: [400] },
      { path, json: { ...job, tenant: VICTIM }, expected: [400] },
      ...models(victim).map((model) => ({ path, json: { ...job, model }, expected: [404] })),
      ...models(victim).map((teacher) => {
        const method = { type: "distillation", distillation: { teacher } };
        return { path, json: { ...job, method }, expected: [404] };
      }),
    ];
  },
  "GET /v1/fine_tuning/jobs": listing("/v1/fine_tuning/jobs", ({ job }) => [
    { path: `/v1/fine_tuning/jobs?after=${job}`, expected: [400] },
  ]),
  [`GET ${JOB}`]: byJob(""),
  [`GET ${JOB}/events`]: ({ job, event }) => [
    { path: `/v1/fine_tuning/jobs/${job}/events`, expected: [404] },
    { path: `/v1/fine_tuning/jobs/${job}/events?after=${event}`, expected: [404] },
  ],
  [`GET ${JOB}/checkpoints`]: byJob("/checkpoints"),
  [`POST ${JOB}/cancel`]: byJob("/cancel"),
  [`POST ${JOB}/pause`]: byJob("/pause"),
  [`POST ${JOB}/resume`]: byJob("/resume"),
  "GET /v1/cores": listing("/v1/cores", () => [
    { path: `/v1/cores?after=${VICTIM}/a`, expected: [200, 400] },
  ]),
  "GET /v1/cores/{name}": byCore(""),
  "POST /v1/cores/{name}": none,
  "POST /v1/cores/{name}/lora": none,
  "POST /v1/cores/{name}/publish": byCore("/publish", { version: 1 }),
  "POST /v1/cores/{name}/rollback": byCore("/rollback"),
  "DELETE /v1/cores/{name}": byCore(""),
  "GET /v1/cores/{name}/versions/{version}/content": byCore("/versions/1/content"),
  "DELETE /v1/cores/{name}/versions/{version}": byCore("/versions/1"),
  "GET /v1/usage": listing("/v1/usage", () => [
    { path: `/v1/usage?tenant=${VICTIM}`, expected: [400] },
    { path: "/v1/usage?by=model", expected: [200] },
    { path: "/v1/usage?by=tenant", expected: [400] },
  ]),
  "GET /v1/admin/tenants": refused("/v1/admin/tenants"),
  "POST /v1/admin/tenants": refused("/v1/admin/tenants", { id: "mine" }),
  "GET /v1/admin/tenants/{tenant}": refused(`/v1/admin/tenants/${VICTIM}`),
  "POST /v1/admin/tenants/{tenant}": refused(`/v1/admin/tenants/${VICTIM}`, { limits: {} }),
  "DELETE /v1/admin/tenants/{tenant}": refused(`/v1/admin/tenants/${VICTIM}`),
  [`GET ${KEYS}`]: refused(`/v1/admin/tenants/${VICTIM}/keys`),
  [`POST ${KEYS}`]: refused(`/v1/admin/tenants/${VICTIM}/keys`, {}),
  [`GET ${KEYS}/{key_id}`]: ({ key }) => [
    { path: `/v1/admin/tenants/${VICTIM}/keys/${key}`, expected: [403] },
    { path: `/v1/admin/tenants/acme/keys/${key}`, expected: [403] },
  ],
  [`DELETE ${KEYS}/{key_id}`]: ({ key }) => [
    { path: `/v1/admin/tenants/${VICTIM}/keys/${key}`, expected: [403] },
    { path: `/v1/admin/tenants/acme/keys/${key}`, expected: [403] },
  ],
  "GET /v1/admin/cores": refused("/v1/admin/cores"),
  "GET /v1/admin/usage": refused("/v1/admin/usage"),
  "GET /v1/admin/factors": refused("/v1/admin/factors"),
  "POST /v1/admin/factors": refused("/v1/admin/factors", {}),
  "DELETE /v1/admin/factors/{digest}": refused(`/v1/admin/factors/${"a".repeat(64)}`),
  "GET /v1/admin/backup": refused("/v1/admin/backup"),
  "GET /health": listing("/health"),
  "GET /ready": listing("/ready"),
  "GET /version": listing("/version"),
  "GET /tokenizer_info": listing("/tokenizer_info"),
  "GET /ping": listing("/ping"),
  "POST /ping": listing("/ping"),
  "GET /metrics": refused("/metrics"),
  "GET /load": refused("/load"),
  "GET /server_info": refused("/server_info"),
  "GET /slots": refused("/slots"),
};
