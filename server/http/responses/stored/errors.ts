/** Refusals of what is not kept, or not any more, and of what still runs. */
import { ApiError, invalid } from "../../../errors.ts";

export function stillRunning(previous: string): ApiError {
  return invalid(
    "previous_response_id",
    `Cannot go on from '${previous}': it still runs. Wait until its status is final, or cancel it.`,
    "previous_response_in_progress",
  );
}

export function notFound(previous: string, gone: string): ApiError {
  const name = previous.slice(0, 80);
  return invalid(
    "previous_response_id",
    gone === previous
      ? `Previous response with id '${name}' not found.`
      : `Cannot go on from '${name}': '${gone}', which it goes on from itself, was deleted or has ` +
        "expired.",
    "previous_response_not_found",
  );
}

/** @param param what names it */
export function noConversation(id: string, param: string): ApiError {
  return new ApiError(404, `Conversation with id '${id.slice(0, 80)}' not found.`, {
    param,
    code: "conversation_not_found",
  });
}

export function noResponse(id: string): never {
  throw new ApiError(404, `Response with id '${id.slice(0, 80)}' not found.`, {
    param: "response_id",
    code: "response_not_found",
  });
}
