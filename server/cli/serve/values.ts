/** What values of serve's flags may be, beside the common ones of `../flags.ts`. */
import type { GenerationConfig } from "../../../src/checkpoint/sampling_defaults.ts";
import type { DeviceChoice } from "../../../adapters/parts.ts";
import { RESERVED_KWARGS } from "../../generate/conversation.ts";
import type { FlagType } from "../flags.ts";

const DEVICE = /^(?:auto|cpu|(?:webgpu|cuda)(?::\d{1,3})?)$/;

/** A device, or several with commas. */
export const device: FlagType<DeviceChoice | `${DeviceChoice},${string}`> = {
  read: (text) =>
    text.split(",").every((each) => DEVICE.test(each)) ? text as DeviceChoice : undefined,
  right:
    "auto, cpu, webgpu or cuda, the last two with :N for one of several; or several with commas",
};

export const generationConfig: FlagType<GenerationConfig> = {
  read: (text) => text,
  right: "a source",
};

export const share: FlagType<number> = {
  read: (text) => {
    const value = /^\d*\.?\d+$/.test(text) ? Number(text) : NaN;
    return value > 0 && value <= 1 ? value : undefined;
  },
  right: "a number above 0 and at most 1, e.g. 0.25",
};

export const templateKwargs: FlagType<Readonly<Record<string, unknown>>> = {
  read: (text) => {
    const value = parsedObject(text);
    return value === undefined || RESERVED_KWARGS.some((name) => name in value) ? undefined : value;
  },
  right: `a JSON object of variables, without ${RESERVED_KWARGS.slice(0, 3).join(", ")}`,
};

function parsedObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? value as Readonly<Record<string, unknown>>
      : undefined;
  } catch {
    return undefined;
  }
}

/** As requests and `/v1/models` have it; a tuned model's name begins with `ft:`. */
export const modelName: FlagType<string> = {
  read: (text) => /^(?!ft:)[\w][\w./:@-]{0,255}$/.test(text) ? text : undefined,
  right: "a name of letters, digits and _ . / : @ - that does not begin with ft:",
};

interface LoraModule {
  readonly name: string;
  readonly path: string;
}

export const loraModule: FlagType<LoraModule> = {
  read: (text) => {
    if (text.startsWith("{")) return moduleOf(parsedObject(text) ?? {});
    const [, name = "", path = ""] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
    return name === "" ? undefined : { name, path };
  },
  right: "NAME=PATH, e.g. shelf=loras/shelf, or the same as JSON: " +
    '{"name": "shelf", "path": "loras/shelf"}',
};

/** vLLM's JSON form; its base_model_name is a label that has no use here. */
function moduleOf({ name, path }: Readonly<Record<string, unknown>>): LoraModule | undefined {
  const given = typeof name === "string" && typeof path === "string" && name !== "" && path !== "";
  return given ? { name, path } : undefined;
}

/** Lower case, no port. */
export const hostName: FlagType<string> = {
  read: (text) => {
    const parsed = URL.parse(`http://${text}`);
    const alone = parsed?.hostname === text.toLowerCase() && !text.includes("*");
    return alone ? parsed.hostname : undefined;
  },
  right: "a host name without scheme, port and path, e.g. lembas.lan",
};

/** Without a slash at its end. */
export const rootPath: FlagType<string> = {
  read: (text) => /^(\/[\w.~-]+)+\/?$/.test(text) ? text.replace(/\/$/, "") : undefined,
  right: "a path that begins with a slash, e.g. /llm",
};

/** As browsers spell it: `https://App.example:443` → `https://app.example`. */
export const origin: FlagType<string> = {
  read: (text) => {
    if (text === "*") return text;
    const parsed = URL.parse(text);
    if (parsed === null || !/^[a-z][a-z\d+.-]*:\/\/[^/?#@\s]+$/i.test(text)) return undefined;
    // of schemes that are not the web's `origin` says "null"
    return parsed.host ? `${parsed.protocol}//${parsed.host}` : text;
  },
  right: "an origin without a path, e.g. https://app.example",
};
