/**
 * PEFT's `adapter_config.json` for LoRA (huggingface/peft 0.21): which linears it adapts, at what rank
 * and scale, and a refusal by name of every variant that is more than `y = x·W + s·x·Aᵀ·Bᵀ`. Keys are
 * PEFT's names of modules within the base, `model.layers.0.self_attn.q_proj`.
 */
import { PythonPattern } from "./python_pattern.ts";

/** What a LoRA adds to a linear: its rank and its scale. */
export interface PeftScale {
  readonly rank: number;
  readonly scale: number;
}

/** A field by which a config leaves a module out. */
export type LeavingField = "target_modules" | "exclude_modules" | "layers_to_transform";

export interface PeftConfig {
  at(key: string): PeftScale;
  /** The field that leaves the module out; undefined for one that is adapted. */
  leaves(key: string): LeavingField | undefined;
  /** `base_model_name_or_path`, for people. */
  readonly base: string | undefined;
}

/** Fields that change training, loading or nothing, but not what the tensors mean. */
const HARMLESS: readonly string[] = [
  "alpha_pattern",
  "auto_mapping",
  "base_model_name_or_path",
  "bias",
  "corda_config",
  "ensure_weight_tying",
  "eva_config",
  "exclude_modules",
  "inference_mode",
  "init_lora_weights",
  "layers_pattern",
  "layers_to_transform",
  "loftq_config",
  "lora_alpha",
  "lora_dropout",
  "lora_ga_config",
  "megatron_config",
  "megatron_core",
  "peft_type",
  "peft_version",
  "qalora_group_size",
  "r",
  "rank_pattern",
  "revision",
  "runtime_config",
  "target_modules",
  "task_type",
  "use_rslora",
  "velora_config",
];

/** Initialisations that leave the base's weights as they are (PiSSA, OLoRA, CorDA, LoftQ do not). */
const PLAIN_INITS: readonly unknown[] = [
  undefined,
  null,
  true,
  false,
  "gaussian",
  "eva",
  "orthogonal",
];

/**
 * Reads the parsed JSON of an `adapter_config.json`.
 * @throws {TypeError} naming the field that is missing, wrong, or asks for more than plain LoRA
 */
export function parsePeftConfig(json: unknown): PeftConfig {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new TypeError("Cannot read LoRA: adapter_config.json is not an object");
  }
  const fields = new Map<string, unknown>(Object.entries(json));
  refuseVariants(fields);
  const rank = positive("r", fields.get("r"), true);
  const alpha = positive("lora_alpha", fields.get("lora_alpha") ?? rank, false);
  const ranks = patternOf("rank_pattern", fields.get("rank_pattern"), true);
  const alphas = patternOf("alpha_pattern", fields.get("alpha_pattern"), false);
  const rootScale = fields.get("use_rslora") === true;
  const base = fields.get("base_model_name_or_path");
  return {
    at: (key) => {
      const r = matchPattern(ranks, key) ?? rank;
      const a = matchPattern(alphas, key) ?? alpha;
      return { rank: r, scale: a / (rootScale ? Math.sqrt(r) : r) };
    },
    leaves: leavingOf(fields),
    base: typeof base === "string" ? base : undefined,
  };
}

function refuseVariants(fields: ReadonlyMap<string, unknown>): void {
  const type = fields.get("peft_type");
  if (type !== "LORA") refuse("peft_type", type, '"LORA"');
  const bias = fields.get("bias") ?? "none";
  if (bias !== "none") refuse("bias", bias, '"none"');
  if (fields.get("use_dora") === true) refuse("use_dora (DoRA)", true, "false");
  const init = fields.get("init_lora_weights");
  if (!PLAIN_INITS.includes(init)) {
    refuse("init_lora_weights", init, "one that leaves the base's weights as they are");
  }
  for (const [name, value] of fields) {
    if (!HARMLESS.includes(name) && !isOff(value)) refuse(name, value, "null, false or absent");
  }
}

function refuse(field: string, value: unknown, wanted: string): never {
  const text = JSON.stringify(value)?.slice(0, 80);
  throw new TypeError(`Cannot read LoRA: ${field} is ${text}, supported is ${wanted}`);
}

function isOff(value: unknown): boolean {
  if (value === null || value === undefined || value === false) return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

function positive(name: string, value: unknown, whole: boolean): number {
  const fits = typeof value === "number" && value > 0 && Number.isFinite(value) &&
    (!whole || Number.isInteger(value));
  if (!fits) refuse(name, value, whole ? "a positive whole number" : "a positive number");
  return value;
}

/** A pattern of the config's, as `re.fullmatch` takes it. @throws {TypeError} naming the field */
function pythonPattern(name: string, pattern: string): (key: string) => boolean {
  try {
    const read = new PythonPattern(pattern);
    return (key) => read.matches(key);
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    throw new TypeError(`Cannot read LoRA: ${name}: ${cause.message}`, { cause });
  }
}

type Pattern = readonly { readonly fits: (key: string) => boolean; readonly value: number }[];

/** Each key is an expression for the name, or for the end of it behind a dot (`get_pattern_key`). */
function patternOf(name: string, value: unknown, whole: boolean): Pattern {
  if (isOff(value)) return [];
  if (typeof value !== "object" || value === null) refuse(name, value, "an object");
  return Object.entries(value).map(([key, number]) => ({
    fits: pythonPattern(`${name}'s key`, `(.*\\.)?(${key})`),
    value: positive(`${name}['${key}']`, number, whole),
  }));
}

/** The first key that fits, as `get_pattern_key` has it. */
function matchPattern(pattern: Pattern, key: string): number | undefined {
  return pattern.find(({ fits }) => fits(key))?.value;
}

/** As PEFT's `check_target_module_exists`. */
function leavingOf(fields: ReadonlyMap<string, unknown>): PeftConfig["leaves"] {
  const targets = namesOf("target_modules", fields.get("target_modules"));
  const excluded = namesOf("exclude_modules", fields.get("exclude_modules"));
  const layers = layersOf(fields.get("layers_to_transform"));
  const places = layerPlaces(fields.get("layers_pattern"));
  // an expression says itself which layers it means
  const chosen = Array.isArray(fields.get("target_modules")) ? layers : undefined;
  return (key) => {
    if (excluded?.(key)) return "exclude_modules";
    if (targets?.(key) === false) return "target_modules";
    if (chosen === undefined) return undefined;
    const layer = places.map((place) => place.exec(key)?.[1]).find((found) => found !== undefined);
    return layer !== undefined && chosen.has(Number(layer)) ? undefined : "layers_to_transform";
  };
}

/** Whether a list of names, or an expression, has a module; undefined where the field says nothing. */
function namesOf(name: string, value: unknown): ((key: string) => boolean) | undefined {
  if (value === undefined || value === null || value === "all-linear") return undefined;
  if (typeof value === "string") return pythonPattern(name, value);
  if (!isTexts(value)) refuse(name, value, "a list of names, or an expression");
  return (key) => value.some((each) => `.${key}`.endsWith(`.${each}`));
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((each) => typeof each === "string");
}

function layersOf(value: unknown): ReadonlySet<number> | undefined {
  if (value === undefined || value === null) return undefined;
  const list: unknown[] = Array.isArray(value) ? value : [value];
  const layers = list.filter((layer): layer is number => Number.isInteger(layer));
  if (layers.length < list.length) refuse("layers_to_transform", value, "a list of whole numbers");
  return layers.length === 0 ? undefined : new Set(layers);
}

/** Where a name says its layer: the first number behind a list's name, of these or of any. */
function layerPlaces(value: unknown): readonly RegExp[] {
  const names: readonly unknown[] = value === undefined || value === null ? [] : [value].flat();
  if (!isTexts(names) || !names.every((name) => /^\w*$/.test(name))) {
    refuse("layers_pattern", value, "a name, or a list of names");
  }
  const lists = names.filter((name) => name !== "");
  if (lists.length === 0) return [/^.*?\.[^.]*\.(\d+)\./];
  return lists.map((name) => new RegExp(`^(?:.*?\\.)?${name}\\.(\\d+)\\.`));
}
