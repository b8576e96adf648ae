/** OpenAI's client on an application with keys, without a socket. */
import OpenAI from "openai";
import type { KeyedApp } from "../../keyed_app.ts";

export function clientOf({ app }: KeyedApp, apiKey: string): OpenAI {
  const fetch = (input: string | URL | Request, init?: RequestInit) =>
    Promise.resolve(app.request(String(input), init));
  return new OpenAI({ baseURL: "http://localhost/v1", apiKey, maxRetries: 0, fetch });
}
