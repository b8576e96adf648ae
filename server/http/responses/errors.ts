/** Errors of a chat, in the words of the request that it was made of. */
import { ApiError } from "../../errors.ts";

/** Whether a path is of the Responses API. */
export function isResponsesPath(path: string): boolean {
  return path === "/v1/responses" || path.startsWith("/v1/responses/");
}

/** Fields of a chat as the request has them. */
const FIELDS: readonly (readonly [RegExp, string])[] = [
  [/\b(tools\[\d+\])\.function\b/g, "$1"],
  [/\bresponse_format\.json_schema\b/g, "text.format"],
  [/\bresponse_format\b/g, "text.format"],
  [/\bmax_tokens\b/g, "max_output_tokens"],
];

/** The same, naming fields of the request to which it is an answer. */
export function responseError(failure: ApiError): ApiError {
  const { status, message, details } = failure;
  const { param, code } = details;
  const own = (text: string) =>
    FIELDS.reduce((said, [field, name]) => said.replace(field, name), text);
  const named = code === "context_length_exceeded" || code === "empty_prompt";
  return new ApiError(status, own(named ? message.replace(/\bmessages\b/g, "input") : message), {
    ...details,
    ...(param !== undefined && { param: param === "messages" ? "input" : own(param) }),
  });
}
