/**
 * The part of node-llama-cpp's native addon that the peer drives: llama.cpp's model, context and
 * batch, without the library's own queues around them. It knows where the prebuilt addon is and how
 * it is loaded; what is measured with it is `llama.ts`'s affair.
 *
 * Only the platform's package of prebuilt kernels is fetched (`npm:@node-llama-cpp/linux-x64`), at
 * run time and by a computed name, so that nothing of it enters the project's dependencies.
 */
import { createRequire } from "node:module";

/** The release of node-llama-cpp whose prebuilt kernels are measured. */
export const ADDON_VERSION = "3.22.1";

export interface AddonModel {
  init(): Promise<boolean>;
  getModelDescription(): string;
  getModelSize(): number;
  dispose(): Promise<void>;
}

export interface AddonSampler {
  applyConfig(config: { readonly temperature: number }): void;
}

export interface AddonContext {
  init(): Promise<boolean>;
  initBatch(size: number): void;
  /** Returns the batch indexes of those tokens whose logits are wanted. */
  addToBatch(
    sequence: number,
    position: number,
    tokens: Uint32Array,
    logitIndexes: Uint32Array,
  ): Uint32Array;
  decodeBatch(): Promise<void>;
  sampleToken(index: number, sampler: AddonSampler): Promise<number>;
  disposeSequence(sequence: number): void;
  dispose(): Promise<void>;
}

export interface ContextOptions {
  readonly contextSize: number;
  /** Tokens of one batch, and of one of llama.cpp's micro-batches (the addon makes them equal). */
  readonly batchSize: number;
  readonly sequences: number;
  readonly flashAttention: boolean;
  readonly threads: number;
  /** ggml's type numbers: 0 = float32, 1 = float16, 8 = Q8_0. */
  readonly kvCacheKeyType: number;
  readonly kvCacheValueType: number;
}

export interface Addon {
  readonly AddonModel: new (
    path: string,
    options: { readonly gpuLayers: number; readonly useMmap: boolean },
  ) => AddonModel;
  readonly AddonContext: new (model: AddonModel, options: ContextOptions) => AddonContext;
  readonly AddonSampler: new (model: AddonModel) => AddonSampler;
  setLogger(logger: (level: number, message: string) => void): void;
  loadBackends(path?: string): void;
  init(): Promise<void>;
  systemInfo(): string;
}

interface PlatformPackage {
  getBinsDir(): { readonly binsDir: string; readonly packageVersion: string };
}

function platformName(): string {
  const os = { linux: "linux", darwin: "mac", windows: "win" }[Deno.build.os as string];
  const arch = { x86_64: "x64", aarch64: "arm64" }[Deno.build.arch as string];
  if (os === undefined || arch === undefined) {
    throw new TypeError(
      `Cannot load llama.cpp: no prebuilt build for ${Deno.build.os} ${Deno.build.arch}`,
    );
  }
  return `${os}-${arch}`;
}

/** Loads the prebuilt CPU addon with the kernels that fit this processor. */
export async function loadAddon(): Promise<Addon> {
  const platform = platformName();
  const specifier = `npm:@node-llama-cpp/${platform}@${ADDON_VERSION}`;
  const { binsDir } = (await import(specifier) as PlatformPackage).getBinsDir();
  const folder = `${binsDir}/${platform}`;
  const addon = createRequire(import.meta.url)(`${folder}/llama-addon.node`) as Addon;
  addon.setLogger(() => {}); // its own logger writes progress dots into stdout
  addon.loadBackends();
  addon.loadBackends(folder);
  await addon.init();
  return addon;
}
