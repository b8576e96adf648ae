/**
 * Flags of `deno task serve` that say how it is reached: the address, keys, limits, what is kept,
 * logs, and how answers are spelled where a request says nothing.
 */
import { LOG_FORMATS, LOG_LEVELS } from "../../telemetry/log.ts";
import { anyText, byteCount, integer, oneOf, type ToldTable } from "../flags.ts";
import { hostName, origin, rootPath, share } from "./values.ts";

/** Who may read `/metrics`: administrators, or anyone who reaches it. */
const METRICS_ACCESS = ["key", "open"] as const;

export const SERVER_FLAGS = {
  port: {
    value: "PORT",
    type: integer(0, 65535),
    help: "port to listen on; 0 = any free one",
    fallback: "8000",
  },
  host: {
    value: "HOST",
    type: anyText,
    help: "address to listen on; other than loopback it is never open",
    fallback: "127.0.0.1",
  },
  "root-path": {
    value: "PATH",
    type: rootPath,
    help: "a path below which the API answers, too, for a proxy that leaves it in place: with " +
      "/llm, /llm/v1/models is /v1/models",
  },
  "max-queue": {
    value: "N",
    type: integer(1, 1 << 20),
    help: "samples that may wait before 429",
    fallback: "1024",
  },
  "max-body": { value: "BYTES", type: byteCount, help: "largest request body", fallback: "8MiB" },
  "max-file": {
    value: "BYTES",
    type: byteCount,
    help: "largest uploaded file",
    fallback: "512MiB",
  },
  data: {
    value: "DIR",
    type: anyText,
    help: "directory of the embedded store (default: the user's data directory)",
  },
  "database-url": {
    value: "URL",
    type: anyText,
    help: "PostgreSQL instead, which several servers may share (better: DATABASE_URL)",
  },
  "keep-responses": {
    value: "DAYS",
    type: integer(1, 36500),
    help:
      "days that a response, or a chat with `store`, is kept after it, or one that goes on from " +
      "it, was made",
    fallback: "30",
  },
  "train-share": {
    value: "F",
    type: share,
    help: "share of the device that training may take while requests run",
    fallback: "0.25",
  },
  "train-jobs": {
    value: "N",
    type: integer(1, 256),
    help: "jobs that train at once",
    fallback: "16",
  },
  "api-key": {
    value: "KEY",
    type: anyText,
    help: "an administrator's key beside those of the store (better: LEMBAS_API_KEY)",
  },
  open: {
    value: "true|false",
    type: oneOf(["true", "false"]),
    alone: "true",
    help: "whether no key is needed (default: only on loopback, without --api-key and PostgreSQL)",
  },
  grace: {
    value: "SECONDS",
    type: integer(0, 3600),
    help: "time for running requests at SIGTERM",
    fallback: "30",
  },
  "log-level": {
    value: LOG_LEVELS.join("|"),
    type: oneOf(LOG_LEVELS),
    help: "least level logged",
    fallback: "info",
  },
  "log-format": {
    value: LOG_FORMATS.join("|"),
    type: oneOf(LOG_FORMATS),
    help: "lines for people, or JSON objects for a collector",
    fallback: "text",
  },
  strict: {
    value: "true|false",
    type: oneOf(["true", "false"]),
    alone: "true",
    help: "whether a request's argument that has no effect here is refused; else it is left out, " +
      "and named in the header lembas-ignored and once in the log",
    fallback: "false",
  },
  "enable-force-include-usage": {
    value: "true|false",
    type: oneOf(["true", "false"]),
    alone: "true",
    help:
      "whether every chunk of a stream of /v1/chat/completions and /v1/completions carries the " +
      "usage so far, whatever its stream_options say (vLLM)",
    fallback: "false",
  },
  "return-tokens-as-token-ids": {
    value: "true|false",
    type: oneOf(["true", "false"]),
    alone: "true",
    help: "whether log probabilities name tokens token_id:ID where a request's " +
      "return_tokens_as_token_ids says nothing (vLLM)",
    fallback: "false",
  },
  "enable-per-request-metrics": {
    value: "true|false",
    type: oneOf(["true", "false"]),
    alone: "true",
    help:
      "whether an answer of one chat or completion tells its times in `metrics`: whole, or in " +
      "the stream's chunk with the usage (vLLM)",
    fallback: "false",
  },
  "metrics-access": {
    value: METRICS_ACCESS.join("|"),
    type: oneOf(METRICS_ACCESS),
    help: "who may read /metrics, /version and /load: administrators, /version any key (key), or " +
      "anyone who reaches the server, as scrapers do (open)",
    fallback: "key",
  },
  "allowed-hosts": {
    value: "NAMES",
    type: hostName,
    list: "commas",
    help: "host names that a server without keys answers to, beside localhost, 127.0.0.0/8 and " +
      "[::1]; may be repeated, or separated by commas",
  },
  "cors-origin": {
    value: "ORIGINS",
    type: origin,
    list: "commas",
    help:
      "origins whose web pages may use the API, e.g. https://app.example, or * with keys; may " +
      "be repeated, or separated by commas",
  },
} as const satisfies ToldTable;
