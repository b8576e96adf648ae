/**
 * Which files of a package or repository make up a model, or a LoRA, by their names alone. It fetches
 * and opens nothing.
 */

/** What a model directory holds beside its weights. */
const COMPANIONS: ReadonlySet<string> = new Set([
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
  "chat_template.json",
  "model.safetensors.index.json",
  // of sentence-transformers
  "modules.json",
  "sentence_bert_config.json",
  "config_sentence_transformers.json",
]);

/** What sentence-transformers puts behind a model, in a folder each: `1_Pooling`, `2_Dense`. */
const MODULE_FILE = /(?:^|\/)\d+_\w+\/(?:config\.json|model\.safetensors)$/;

/** A choice of files from a listing. */
export interface ModelFiles {
  /** Full names, as listed. */
  readonly names: readonly string[];
  /** The one GGUF, by its base name; undefined for a directory of safetensors. */
  readonly gguf: string | undefined;
}

/**
 * Chooses the safetensors with their companions, or else the one GGUF.
 *
 * @param source named in errors
 * @throws {TypeError} where there is no model, or more than one
 */
export function chooseModelFiles(source: string, listed: readonly string[]): ModelFiles {
  const weights = listed.filter((name) => name.endsWith(".safetensors") && !MODULE_FILE.test(name));
  const ggufs = listed.filter((name) => name.endsWith(".gguf"));
  const directories = new Set(weights.map(directoryOf));
  const [directory] = directories;
  if (directory !== undefined && directories.size === 1) {
    const companions = listed.filter((name) =>
      directoryOf(name) === directory && COMPANIONS.has(baseName(name))
    );
    const modules = listed.filter((name) =>
      MODULE_FILE.test(name) && directoryOf(directoryOf(name).slice(0, -1)) === directory
    );
    return { names: [...weights, ...companions, ...modules], gguf: undefined };
  }
  const [gguf] = ggufs;
  if (gguf !== undefined && ggufs.length === 1 && weights.length === 0) {
    return { names: [gguf], gguf: baseName(gguf) };
  }
  const found = [...weights, ...ggufs].join(", ") || "none";
  throw new TypeError(`Cannot find one model in ${source}: its weight files are ${found}`);
}

/** A PEFT LoRA's two files. */
const ADAPTER_FILES: readonly string[] = ["adapter_config.json", "adapter_model.safetensors"];

/**
 * Chooses the files of a PEFT LoRA at the top of a repository.
 *
 * @param source named in errors
 * @throws {TypeError} naming what is missing
 */
export function chooseAdapterFiles(source: string, listed: readonly string[]): ModelFiles {
  const missing = ADAPTER_FILES.filter((name) => !listed.includes(name));
  if (missing.length === 0) return { names: ADAPTER_FILES, gguf: undefined };
  const pickle = listed.includes("adapter_model.bin")
    ? "; its adapter_model.bin is a pickle, which can run code when it is read"
    : "";
  throw new TypeError(`Cannot find a LoRA in ${source}: it has no ${missing.join(", ")}${pickle}`);
}

/**
 * The last part of a listed name, safe to create in a directory of ours.
 *
 * @throws {TypeError} where it is no plain file name
 */
export function baseName(name: string): string {
  const base = name.split("/").at(-1) ?? "";
  if (!/^[\w.+-]+$/.test(base) || /^\.+$/.test(base)) {
    throw new TypeError(`Cannot use '${name}': it is no plain file name`);
  }
  return base;
}

/**
 * Where a listed file goes below a directory of ours: at its top, a module's in the module's folder.
 *
 * @throws {TypeError} where a part of it is no plain name
 */
export function placeOf(name: string): string {
  if (!MODULE_FILE.test(name)) return baseName(name);
  return name.split("/").slice(-2).map(baseName).join("/");
}

function directoryOf(name: string): string {
  return name.slice(0, name.lastIndexOf("/") + 1);
}
