/**
 * The API key: a bearer token, compared in constant time. It owns who may come in; it knows no
 * tenants.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { ApiError } from "./errors.ts";

/**
 * A check of an `Authorization` header against the key.
 * @throws {ApiError} 401 from the returned function where it is missing or wrong.
 */
export function keyCheck(apiKey: string): (authorization: string | undefined) => void {
  const expected = digest(apiKey);
  return (authorization) => {
    const token = /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1];
    if (token === undefined) {
      throw unauthorized(
        "You didn't provide an API key. Send it in an Authorization header using Bearer auth " +
          "(i.e. Authorization: Bearer YOUR_KEY).",
        "missing_api_key",
      );
    }
    if (!timingSafeEqual(digest(token), expected)) {
      throw unauthorized("Incorrect API key provided.", "invalid_api_key");
    }
  };
}

/** Digests have one length, which `timingSafeEqual` needs and which hides the key's own. */
function digest(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}

function unauthorized(message: string, code: string): ApiError {
  return new ApiError(401, message, { code, headers: { "www-authenticate": "Bearer" } });
}
