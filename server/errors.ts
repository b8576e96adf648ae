/**
 * Errors as clients of OpenAI's API know them: `{ error: { message, type, param, code } }` with the
 * right status, made of whatever was thrown: by the engine, the store, a reader, or the validator.
 */
import type { z } from "@hono/zod-openapi";
import { failureOf } from "../adapters/store/database/sql_error.ts";
import { GoneError, QuotaError } from "../adapters/store/errors.ts";
import { UnservableError } from "../adapters/catalog/factor_sets.ts";
import {
  ConflictError,
  ContextLengthError,
  DeviceFailedError,
  isFieldError,
  OverloadedError,
} from "../src/util/errors.ts";

export type ErrorStatus = 400 | 401 | 403 | 404 | 405 | 409 | 413 | 415 | 424 | 429 | 500 | 503;

export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
  };
}

/** Details of an `ApiError`; what is left out is null, and `type` follows the status. */
export interface ErrorDetails {
  /** Default: by the status. */
  readonly type?: string;
  readonly param?: string;
  readonly code?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** What was thrown; for the log only. */
  readonly cause?: unknown;
}

/** An error answer; `app.ts` turns it into a response. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly details: ErrorDetails;
  constructor(readonly status: ErrorStatus, message: string, details?: ErrorDetails) {
    super(message, { cause: details?.cause });
    this.details = details ?? {};
  }

  /** OpenAI's body. */
  body(): ErrorBody {
    const { type = errorType(this.status), param = null, code = null } = this.details;
    return { error: { message: this.message, type, param, code } };
  }

  response(): Response {
    return Response.json(this.body(), {
      status: this.status,
      ...(this.details.headers && { headers: { ...this.details.headers } }),
    });
  }
}

function errorType(status: ErrorStatus): string {
  switch (status) {
    case 403:
      return "insufficient_permissions";
    case 429:
      return "rate_limit_exceeded";
    case 500:
      return "server_error";
    case 503:
      return "service_unavailable";
    default:
      return "invalid_request_error";
  }
}

/** 400 with the parameter's name. */
export function invalid(param: string, message: string, code = "invalid_value"): ApiError {
  return new ApiError(400, message, { param, code });
}

/** 404 as OpenAI words it. */
export function modelNotFound(model: string): ApiError {
  return new ApiError(
    404,
    `The model \`${model}\` does not exist or you do not have access to it.`,
    { param: "model", code: "model_not_found" },
  );
}

/**
 * 400 as OpenAI words it; `completion` is undefined where the request set no limit. A prompt that was
 * refused by its length alone has `atLeast` so many tokens.
 */
export function contextLengthExceeded(
  param: "messages" | "prompt",
  limit: number,
  prompt: number | { readonly atLeast: number },
  completion: number | undefined,
): ApiError {
  const [tokens, least] = typeof prompt === "number" ? [prompt, ""] : [prompt.atLeast, "at least "];
  const asked = completion === undefined
    ? `your ${param} resulted in ${least}${tokens} tokens`
    : `you requested ${least}${tokens + completion} tokens ` +
      `(${least}${tokens} in the ${param}, ${completion} in the completion)`;
  return new ApiError(
    400,
    `This model's maximum context length is ${limit} tokens. However, ${asked}. ` +
      `Please reduce the length of the ${param}${
        completion === undefined ? "" : " or completion"
      }.`,
    { param, code: "context_length_exceeded" },
  );
}

/** 503 while the server goes down. */
export function shuttingDown(): ApiError {
  return new ApiError(503, "The server is shutting down. Please retry against another one.", {
    code: "shutting_down",
    headers: { "retry-after": "5" },
  });
}

/**
 * The answer to whatever was thrown. Errors that are not the caller's become 500 with nothing
 * inside but the request's id, under which the log has the rest.
 */
export function toApiError(error: unknown, requestId: string): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof OverloadedError) return overloaded(error);
  if (error instanceof DeviceFailedError) return deviceFailed(error);
  if (error instanceof ContextLengthError) {
    return new ApiError(400, error.message, { code: "context_length_exceeded" });
  }
  if (error instanceof QuotaError) {
    return new ApiError(403, error.message, { code: "storage_quota_exceeded" });
  }
  if (isFieldError(error)) return invalid(error.field, error.message);
  if (error instanceof ConflictError) {
    return new ApiError(409, error.message, { param: error.field, code: "conflict" });
  }
  if (error instanceof UnservableError) return unservable(error);
  if (error instanceof GoneError) return new ApiError(404, error.message, { code: "not_found" });
  // no id or name has such a character, so whatever asked for it has asked for nothing
  if (failureOf(error) === "bad character") {
    return new ApiError(400, "The request has a NUL or half a character where neither can be.", {
      code: "invalid_character",
    });
  }
  return new ApiError(
    500,
    "The server had an error while processing your request. Sorry about that! " +
      `Its log has the details under request id ${requestId}.`,
    { code: "internal_error", cause: error },
  );
}

/** Runs `work`; a FieldError of it becomes a 400 that names this field of the request instead. */
export async function refusing<T>(param: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (isFieldError(error)) throw invalid(param, error.message);
    throw error;
  }
}

function unservable({ reason, message }: UnservableError): ApiError {
  return reason === "damaged"
    ? new ApiError(500, message, { code: "adapter_damaged" })
    : invalid("model", message, "factors_not_found");
}

/** The server ends, and whoever runs it starts it again. */
function deviceFailed(cause: DeviceFailedError): ApiError {
  return new ApiError(
    503,
    "The server's graphics device failed, and the server restarts. Please retry.",
    { code: "device_failed", headers: { "retry-after": "10" }, cause },
  );
}

function overloaded(error: OverloadedError): ApiError {
  const seconds = Math.max(1, Math.ceil(error.retryAfterSeconds));
  return new ApiError(429, error.message, {
    code: error.scope === "tenant" ? "rate_limit_exceeded" : "overloaded",
    headers: { "retry-after": String(seconds) },
  });
}

type Issue = z.core.$ZodIssue;

/** The first issue of a failed validation, in OpenAI's words, `param` naming the field's path. */
export function validationError(issues: readonly Issue[]): ApiError {
  const [issue] = issues;
  if (issue === undefined) return new ApiError(400, "The request body is invalid.");
  return describeIssue(deepest(issue));
}

/**
 * Of a union's failures, that of the branch which the value was meant for: the one whose type it has,
 * with the fewest wrong types inside, and of these the one that got furthest into the value.
 */
function deepest(issue: Issue, base: readonly PropertyKey[] = []): Issue {
  const path = [...base, ...issue.path];
  if (issue.code !== "invalid_union") return { ...issue, path };
  const meant = issue.errors.flatMap((branch) => {
    const [first] = branch;
    if (first === undefined || isOtherType(first)) return [];
    return { found: deepest(first, path), wrong: branch.filter(isWrongType).length };
  });
  meant.sort((a, b) => a.wrong - b.wrong || b.found.path.length - a.found.path.length);
  return meant[0]?.found ?? { ...issue, path };
}

/** Whether the value as a whole is of another type than its branch. */
function isOtherType(issue: Issue): boolean {
  return issue.path.length === 0 && isWrongType(issue);
}

function isWrongType({ code }: Issue): boolean {
  return code === "invalid_type" || code === "invalid_value";
}

function describeIssue(issue: Issue): ApiError {
  const param = formatPath(issue.path);
  if (param === "" && issue.code === "invalid_type") {
    return new ApiError(
      400,
      `The request body must be a JSON object, but it is ${article(typeName(issue.input))}.`,
    );
  }
  if (issue.input === undefined && issue.code !== "unrecognized_keys") {
    return invalid(param, `Missing required parameter: '${param}'.`, "missing_required_parameter");
  }
  switch (issue.code) {
    case "unrecognized_keys": {
      const key = formatPath([...issue.path, issue.keys[0] ?? ""]);
      return invalid(key, `Unrecognized request argument supplied: ${key}`, "unknown_parameter");
    }
    case "invalid_type":
      return typeMismatch(param, [article(issue.expected)], issue.input);
    case "too_small":
    case "too_big":
      return outOfRange(param, issue);
    case "invalid_value":
      return unsupported(param, issue.values, issue.input);
    case "invalid_union":
      return unionMismatch(param, issue);
    case "invalid_key":
      return invalid(
        param,
        `Invalid key '${param}': ${issue.issues[0]?.message ?? issue.message}.`,
      );
    case "custom":
      return invalid(param, issue.message, String(issue.params?.["code"] ?? "invalid_value"));
    default:
      return invalid(param, `Invalid value for '${param}': ${issue.message}.`);
  }
}

function typeMismatch(param: string, expected: readonly string[], input: unknown): ApiError {
  const wanted = [...new Set(expected)].join(" or ");
  return invalid(
    param,
    `Invalid type for '${param}': expected ${wanted}, but got ${article(typeName(input))} instead.`,
    "invalid_type",
  );
}

/** A value of no branch's type: says what the branches are, or the names that choose one. */
function unionMismatch(param: string, issue: z.core.$ZodIssueInvalidUnion): ApiError {
  const expected = issue.errors.flatMap(([first]) => first === undefined ? [] : wantedBy(first));
  if (expected.length > 0) return typeMismatch(param, expected, issue.input);
  const options = "options" in issue && Array.isArray(issue.options) ? issue.options : [];
  // a branch whose name may be left out has undefined among its names
  return unsupported(param, options.filter((name) => name !== undefined), valueAt(issue));
}

function wantedBy(issue: Issue): readonly string[] {
  if (issue.code === "invalid_type") return [article(issue.expected)];
  return issue.code === "invalid_value" ? issue.values.map((value) => JSON.stringify(value)) : [];
}

/** A union that is told apart by a field is at fault there, though its input is the whole. */
function valueAt({ input, path }: Issue): unknown {
  const key = path.at(-1);
  return typeof input === "object" && input !== null && key !== undefined
    ? Reflect.get(input, key)
    : input;
}

function unsupported(param: string, values: readonly unknown[], input: unknown): ApiError {
  return invalid(
    param,
    `Invalid value for '${param}': supported values are ` +
      `${values.map((value) => JSON.stringify(value)).join(", ")}, ` +
      `but got ${preview(input)} instead.`,
  );
}

type RangeIssue = z.core.$ZodIssueTooSmall | z.core.$ZodIssueTooBig;

function outOfRange(param: string, issue: RangeIssue): ApiError {
  const small = issue.code === "too_small";
  const limit = small ? issue.minimum : issue.maximum;
  if (issue.origin === "array" || issue.origin === "string") {
    const kind = issue.origin === "array" ? "array" : "string";
    return invalid(
      param,
      `Invalid '${param}': ${kind} too ${small ? "short" : "long"}. Expected ` +
        `${small ? "at least" : "at most"} ${limit} ${
          kind === "array" ? "items" : "characters"
        }, ` +
        `but got ${(issue.input as { length: number }).length} instead.`,
      `${kind}_${small ? "below_min" : "above_max"}_length`,
    );
  }
  const bound = `${small ? ">" : "<"}${issue.inclusive === false ? "" : "="} ${limit}`;
  return invalid(
    param,
    `Invalid '${param}': number ${small ? "below minimum" : "above maximum"} value. ` +
      `Expected a value ${bound}, but got ${preview(issue.input)} instead.`,
    `number_${small ? "below_min" : "above_max"}_value`,
  );
}

/** `["messages", 0, "content"]` → `messages[0].content`. */
export function formatPath(path: readonly PropertyKey[]): string {
  let text = "";
  for (const key of path) {
    if (typeof key === "number") text += `[${key}]`;
    else text += (text === "" ? "" : ".") + String(key);
  }
  return text;
}

function typeName(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "decimal number";
  return typeof value;
}

function article(type: string): string {
  const name = type === "int" ? "integer" : type;
  if (name === "null" || name === "undefined") return name;
  return `${/^[aeiou]/.test(name) ? "an" : "a"} ${name}`;
}

function preview(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

/** The message of an error in OpenAI's shape, as a client reads it; undefined where it is none. */
export function statedReason(body: string): string | undefined {
  try {
    const message: unknown = JSON.parse(body)?.error?.message;
    return typeof message === "string" ? message : undefined;
  } catch {
    return undefined; // not JSON: a proxy's page, perhaps
  }
}
