/**
 * PEFT's `adapter_config.json` for LoRA (huggingface/peft 0.21): rank and scale of each linear, and
 * a refusal by name of every variant that is more than `y = x·W + s·x·Aᵀ·Bᵀ`.
 */

/** What a LoRA adds to a linear: its rank and its scale. */
export interface PeftScale {
  readonly rank: number;
  readonly scale: number;
}

export interface PeftConfig {
  /** Rank and scale of the linear `layers.N.block.module` (without weight's or PEFT's affixes). */
  at(key: string): PeftScale;
  /** Whether `target_modules` names the linear; a pattern or "all-linear" is taken to. */
  targets(key: string): boolean;
  /** Layers that may be adapted; undefined for all. */
  readonly layers: ReadonlySet<number> | undefined;
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
    throw new TypeError("Cannot import LoRA: adapter_config.json is not an object");
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
    targets: targetsOf(fields.get("target_modules")),
    layers: layersOf(fields.get("layers_to_transform")),
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
  throw new TypeError(`Cannot import LoRA: ${field} is ${text}, supported is ${wanted}`);
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

/** Keys as PEFT has them, but names only: a key of its own may be any regular expression. */
function patternOf(name: string, value: unknown, whole: boolean): ReadonlyMap<string, number> {
  if (isOff(value)) return new Map();
  if (typeof value !== "object" || value === null) refuse(name, value, "an object");
  return new Map(
    Object.entries(value).map(([key, number]) => {
      if (!/^\^?[A-Za-z0-9_.]+$/.test(key)) refuse(`${name}'s key`, key, "a module's name");
      return [key, positive(`${name}['${key}']`, number, whole)];
    }),
  );
}

/** The first key that is the module's name or the end of it, as PEFT's `get_pattern_key` does. */
function matchPattern(pattern: ReadonlyMap<string, number>, key: string): number | undefined {
  for (const [name, value] of pattern) {
    const bare = name.replace(/^\^/, "");
    const full = `model.${key}`;
    if (full === bare || (bare === name && full.endsWith(`.${name}`))) return value;
  }
  return undefined;
}

function targetsOf(value: unknown): (key: string) => boolean {
  if (!Array.isArray(value)) return () => true;
  const names = value.map(String);
  return (key) => names.some((name) => `.model.${key}`.endsWith(`.${name}`));
}

function layersOf(value: unknown): ReadonlySet<number> | undefined {
  if (value === undefined || value === null) return undefined;
  const list: unknown[] = Array.isArray(value) ? value : [value];
  const layers = list.filter((layer): layer is number => Number.isInteger(layer));
  if (layers.length < list.length) refuse("layers_to_transform", value, "a list of whole numbers");
  return layers.length === 0 ? undefined : new Set(layers);
}
