/**
 * The path that routes see. Clients differ in a slash at the end and in whether they were told `/v1`,
 * proxies in what they leave in front; keys, metrics and logs know one spelling of each path alone.
 */
import { getPath } from "hono/utils/url";

/** What vLLM and llama.cpp answer without `/v1`, too. */
const WITHOUT_VERSION = /^\/((chat\/)?completions$|chat\/completions\/input_tokens$|models(\/|$))/;

/** `/v1/models/` and `/models` are both `/v1/models`, and so is `/llm/v1/models` below `/llm`. */
export function routedPath(request: Request, root = ""): string {
  const path = below(root, getPath(request)).replace(/\/+$/, "") || "/";
  return WITHOUT_VERSION.test(path) ? `/v1${path}` : path;
}

function below(root: string, path: string): string {
  return root !== "" && `${path}/`.startsWith(`${root}/`) ? path.slice(root.length) : path;
}
