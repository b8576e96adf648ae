/**
 * A graphics device for tests on machines without one: SwiftShader, Vulkan computed by the CPU, which
 * the npm package of Chromium carries for Linux on x86-64. Libraries are found by the environment that
 * a process begins with, so what uses the device runs in a process of its own.
 */
import { assert } from "@std/assert";
import { unpackTar } from "modern-tar/fs";
import { createReadStream } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";
import { isFile, type Needing, needing } from "./needing.ts";

const ARCHIVE = "swiftshader.tar.br";

/** The head of a test on WebGPU. */
export function onWebGpu(name: string): Needing {
  return needing(name, missing(), "LEMBAS_TEST_WEBGPU");
}

/** A folder of a device's own, and what a process finds it by; disposing removes the folder. */
export class SoftwareGpu implements AsyncDisposable {
  readonly #folder: string;
  readonly env: Readonly<Record<string, string>>;

  constructor(folder: string, env: Readonly<Record<string, string>>) {
    this.#folder = folder;
    this.env = env;
  }

  /** @throws {Deno.errors.NotFound} where there is none */
  static async unpack(): Promise<SoftwareGpu> {
    const lack = missing();
    if (lack !== undefined) throw new Deno.errors.NotFound(`Cannot test on WebGPU: ${lack}`);
    const folder = await Deno.makeTempDir({ prefix: "lembas-gpu-" });
    const gpu = new SoftwareGpu(folder, {
      LD_LIBRARY_PATH: folder,
      VK_ICD_FILENAMES: `${folder}/vk_swiftshader_icd.json`,
      XDG_RUNTIME_DIR: folder,
    });
    try {
      const archive = createReadStream(`${packageFolder()}/${ARCHIVE}`);
      await pipeline(archive, createBrotliDecompress(), unpackTar(folder));
      return gpu;
    } catch (error) {
      await gpu[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** What a program prints as JSON on the device; fails with what it writes where it does not end well. */
  async run(
    program: URL,
    args: readonly string[] = [],
    env: Readonly<Record<string, string>> = {},
  ): Promise<unknown> {
    const { code, signal, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", program.pathname, ...args],
      env: { ...this.env, ...env },
    }).output();
    const text = new TextDecoder();
    assert(code === 0, `exit ${signal ?? code}: ${text.decode(stderr)}`);
    return JSON.parse(text.decode(stdout));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.#folder, { recursive: true });
  }
}

function missing(): string | undefined {
  const { os, arch } = Deno.build;
  if (os !== "linux" || arch !== "x86_64") {
    return `npm has no graphics device in software for ${os} ${arch}`;
  }
  return isFile(`${packageFolder()}/${ARCHIVE}`)
    ? undefined
    : `the npm package of Chromium has no ${ARCHIVE}`;
}

function packageFolder(): string {
  const main = createRequire(import.meta.url).resolve("@sparticuz/chromium");
  return `${dirname(dirname(main))}/bin`;
}
