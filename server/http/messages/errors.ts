/** Errors as clients of Anthropic's API know them: `{ type: "error", error: { type, message } }`. */
import type { ApiError, ErrorStatus } from "../../errors.ts";
import type { MessageErrorBody } from "./schema.ts";

/** Whether a path is of the Messages API, and its errors are. */
export function isMessagesPath(path: string): boolean {
  return path === "/v1/messages" || path.startsWith("/v1/messages/");
}

function errorType(status: ErrorStatus): string {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 500:
      return "api_error";
    case 503:
      return "overloaded_error";
    default:
      return "invalid_request_error";
  }
}

/** Fields of a chat as the request that it was made of has them. */
const FIELDS: readonly (readonly [RegExp, string])[] = [
  [/\b(tools\[\d+\])\.function\.parameters\b/g, "$1.input_schema"],
  [/\b(tools\[\d+\])\.function\b/g, "$1"],
  [/'response_format\.json_schema\.schema\b/g, "'output_config.format.schema"],
  [/'response_format'/g, "'output_config.format'"],
];

/** Anthropic's body. It has no field for a parameter's name, so the message has it. */
export function messageError(failure: ApiError, requestId: string): MessageErrorBody {
  const { message, status, details: { param = "" } } = failure;
  const named = message.includes(param) ? message : `'${param}': ${message}`;
  return {
    type: "error",
    error: {
      type: errorType(status),
      message: FIELDS.reduce((text, [field, own]) => text.replace(field, own), named),
    },
    request_id: requestId,
  };
}

export function messageErrorResponse(failure: ApiError, requestId: string): Response {
  const { status, details: { headers } } = failure;
  return Response.json(messageError(failure, requestId), {
    status,
    ...(headers && { headers: { ...headers } }),
  });
}
