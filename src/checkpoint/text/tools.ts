/**
 * Tools and calls as chat templates take them: in requests and in training data alike. Trap: clients
 * write a call's arguments as JSON text, templates want the object.
 */

/** A function that the model may call. */
export interface Tool {
  readonly type: "function";
  readonly function: {
    readonly name: string;
    readonly description?: string;
    /** JSON schema of the arguments, an object's. */
    readonly parameters?: Readonly<Record<string, unknown>>;
  };
}

/** A call in an assistant's message. */
export interface ToolCall {
  readonly id?: string;
  readonly type: "function";
  readonly function: {
    readonly name: string;
    /** Text where it is not that of a JSON object, as of a call that was cut off. */
    readonly arguments: Readonly<Record<string, unknown>> | string;
  };
}

/** A function's fields in the order in which templates show them, without any other (`strict`). */
export function templateTool(
  { name, description, parameters }: {
    readonly name: string;
    readonly description?: string | null | undefined;
    readonly parameters?: Readonly<Record<string, unknown>> | null | undefined;
  },
): Tool {
  return {
    type: "function",
    function: { name, ...(description && { description }), ...(parameters && { parameters }) },
  };
}

/** A call's arguments; undefined where the text is no JSON object. Nothing is an empty one. */
export function argumentsOf(text: string): Readonly<Record<string, unknown>> | undefined {
  if (text.trim() === "") return {};
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
    return value as Readonly<Record<string, unknown>>;
  } catch {
    return undefined;
  }
}
