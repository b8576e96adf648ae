/**
 * What sentence-transformers puts behind an encoder: `modules.json` with pooling, dense layers and
 * normalisation, and how long texts may be. Without it texts are pooled by their mean, as
 * sentence-transformers does.
 */
import { Fields } from "../fields.ts";
import { optionalJson, readJson } from "../json_file.ts";

/** How a text's tokens become one vector. */
export type Pooling = "mean" | "cls" | "last" | "max" | "meanSqrtLen" | "weightedMean";

/** A linear layer on the vector, with what bends it. */
export interface DenseModule {
  readonly type: "dense";
  /** The folder of its weights, below the model's. */
  readonly folder: string;
  readonly inputs: number;
  readonly outputs: number;
  readonly bias: boolean;
  readonly activation: "tanh" | "identity";
}

export type AfterPooling = DenseModule | { readonly type: "normalize" };

export interface SentenceModules {
  /** Side by side where there are several. */
  readonly pooling: readonly Pooling[];
  readonly after: readonly AfterPooling[];
  /** Tokens of a text, special ones included; undefined = as many as there are positions. */
  readonly maxTokens: number | undefined;
  readonly lowerCase: boolean;
}

/** In the order in which sentence-transformers puts them side by side. */
const POOLINGS: readonly (readonly [string, Pooling])[] = [
  ["pooling_mode_cls_token", "cls"],
  ["pooling_mode_max_tokens", "max"],
  ["pooling_mode_mean_tokens", "mean"],
  ["pooling_mode_mean_sqrt_len_tokens", "meanSqrtLen"],
  ["pooling_mode_weightedmean_tokens", "weightedMean"],
  ["pooling_mode_lasttoken", "last"],
];

/** By the names that `pooling_mode` has in newer files. */
const NAMED: ReadonlyMap<string, Pooling> = new Map([
  ["cls", "cls"],
  ["max", "max"],
  ["mean", "mean"],
  ["mean_sqrt_len_tokens", "meanSqrtLen"],
  ["weightedmean", "weightedMean"],
  ["lasttoken", "last"],
]);

const ACTIVATIONS: ReadonlyMap<string, DenseModule["activation"]> = new Map([
  ["torch.nn.modules.activation.Tanh", "tanh"],
  ["torch.nn.modules.linear.Identity", "identity"],
]);

/**
 * Reads what a directory says.
 * @throws {TypeError} naming the module or field that is not supported
 */
export async function readModules(directory: string): Promise<SentenceModules> {
  const listed = await optionalJson(`${directory}/modules.json`);
  const length = await optionalJson(`${directory}/sentence_bert_config.json`) ?? {};
  const fields = new Fields("sentence_bert_config.json", length);
  const sizes = {
    maxTokens: fields.optionalCount("max_seq_length"),
    lowerCase: fields.optionalFlag("do_lower_case") ?? false,
  };
  if (listed === undefined) return { pooling: ["mean"], after: [], ...sizes };
  if (!Array.isArray(listed)) throw new TypeError("Cannot read modules.json: it is not a list");
  const modules = listed.map((one) => moduleOf(new Fields("modules.json", one)));
  const pooling = modules.find(({ type }) => type === "Pooling");
  const after: AfterPooling[] = [];
  for (const { type, folder } of modules) {
    if (type === "Normalize") after.push({ type: "normalize" });
    if (type === "Dense") after.push(await readDense(directory, folder));
  }
  return {
    pooling: pooling === undefined ? ["mean"] : await readPooling(directory, pooling.folder),
    after,
    ...sizes,
  };
}

const KNOWN = ["Transformer", "Pooling", "Dense", "Normalize"];

/** The class's own name: where it is found has changed between versions. */
function moduleOf(fields: Fields): { readonly type: string; readonly folder: string } {
  const type = (fields.optionalText("type") ?? "").split(".").at(-1) ?? "";
  const folder = fields.optionalText("path") ?? "";
  if (!KNOWN.includes(type)) {
    throw new TypeError(
      `Cannot load the model: modules.json has a ${type || "nameless module"}, ` +
        `supported are ${KNOWN.join(", ")}`,
    );
  }
  if (!/^[\w-]*$/.test(folder)) {
    throw new TypeError(`Cannot read modules.json: '${folder}' is no name of a folder beside it`);
  }
  return { type, folder };
}

async function readPooling(directory: string, folder: string): Promise<readonly Pooling[]> {
  const source = `${folder}/config.json`;
  const fields = new Fields(source, await readJson(`${directory}/${source}`));
  if (fields.optionalFlag("include_prompt") === false) {
    throw new TypeError(`Cannot load the model: ${source}: include_prompt must be true`);
  }
  if (!fields.has("pooling_mode")) {
    const chosen = POOLINGS.filter(([name]) => fields.optionalFlag(name) ?? false);
    return chosen.length > 0 ? chosen.map(([, pooling]) => pooling) : ["mean"];
  }
  return fields.textOrTexts("pooling_mode").map((name) => {
    const named = NAMED.get(name);
    if (named !== undefined) return named;
    throw new TypeError(
      `Cannot load the model: ${source} asks for pooling '${name}', supported are ` +
        [...NAMED.keys()].join(", "),
    );
  });
}

async function readDense(directory: string, folder: string): Promise<DenseModule> {
  const source = `${folder}/config.json`;
  const fields = new Fields(source, await readJson(`${directory}/${source}`));
  const name = fields.optionalText("activation_function") ?? "torch.nn.modules.activation.Tanh";
  const activation = ACTIVATIONS.get(name);
  if (activation === undefined) {
    throw new TypeError(
      `Cannot load the model: ${source}: activation_function must be Tanh or Identity, ` +
        `current value is ${name}`,
    );
  }
  return {
    type: "dense",
    folder,
    inputs: fields.count("in_features"),
    outputs: fields.count("out_features"),
    bias: fields.optionalFlag("bias") ?? true,
    activation,
  };
}
