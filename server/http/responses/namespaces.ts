/**
 * Functions that a request groups under a namespace, as tools of the Responses API: the model knows each
 * as `namespace__name`, requests and answers by both. Trap: a name by itself may be in several.
 */
import type { ToolBody } from "../schema/tools.ts";
import { invalid } from "../../errors.ts";
import type { ResponseFunction, ResponseTool } from "./schema.ts";

/** What a function is called in items. */
export interface NamespacedName {
  readonly name: string;
  readonly namespace?: string | null | undefined;
}

/** Longest name of a function, as OpenAI has it. */
const MOST_NAME = 64;

/** As the model knows it. */
export function flatName({ name, namespace }: NamespacedName): string {
  return namespace ? `${namespace}__${name}` : name;
}

/** @throws {ApiError} 400 for two of one name, and for one that is too long */
export function flatTools(tools: readonly ResponseTool[]): readonly ToolBody[] {
  const named = namedTools(tools);
  const names = new Set<string>();
  for (const { flat, at } of named) {
    if (flat.length > MOST_NAME) {
      throw invalid(at, `Invalid '${at}': '${flat}' is longer than ${MOST_NAME} characters.`);
    }
    if (names.has(flat) && flat.includes("__")) {
      throw invalid(at, `Invalid '${at}': there are two functions '${flat}'.`);
    }
    names.add(flat);
  }
  return named.map(({ flat, described: { type, name: _, ...more } }) => ({
    type,
    function: { ...more, name: flat },
  }));
}

/** How items call a function that the model knows by this name. */
export function namesIn(tools: readonly ResponseTool[]): (flat: string) => NamespacedName {
  const known = new Map(
    namedTools(tools).map(({ flat, described: { name }, namespace }) => [flat, {
      name,
      ...(namespace !== undefined && { namespace }),
    }]),
  );
  return (flat) => known.get(flat) ?? { name: flat };
}

interface NamedTool {
  readonly flat: string;
  readonly namespace: string | undefined;
  readonly described: ResponseFunction;
  /** Its name for errors. */
  readonly at: string;
}

function namedTools(tools: readonly ResponseTool[]): readonly NamedTool[] {
  return tools.flatMap((tool, index): NamedTool[] => {
    const at = `tools[${index}]`;
    if (tool.type === "function") {
      return [{ flat: tool.name, namespace: undefined, described: tool, at: `${at}.name` }];
    }
    return tool.tools.map((described, inner) => ({
      flat: flatName({ name: described.name, namespace: tool.name }),
      ...{ namespace: tool.name, described, at: `${at}.tools[${inner}].name` },
    }));
  });
}
