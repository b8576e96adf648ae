/**
 * Where the tests' Chromium comes from: the npm package that packs one for Linux on x86-64, or else
 * the machine. The package's own module unpacks to fixed names in the temporary directory, where one
 * user's files stop the next; here each browser is unpacked into a folder of its own.
 */
import { unpackTar } from "modern-tar/fs";
import { createReadStream, createWriteStream } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";
import { folderOnPath, type Needing, needing } from "./needing.ts";

const VARIABLE = "LEMBAS_TEST_CHROMIUM";
const NAMES = [
  "chromium-headless-shell",
  "chromium",
  "chromium-browser",
  "google-chrome-stable",
  "google-chrome",
];
const MISSING = `npm has no Chromium for ${Deno.build.os} ${Deno.build.arch}, the path has none, ` +
  `and ${VARIABLE} names none`;

/** A browser's program, and the variables it is to be started with. */
export interface Chromium extends AsyncDisposable {
  readonly path: string;
  readonly env: Readonly<Record<string, string>>;
}

type Source =
  | { readonly type: "machine"; readonly path: string }
  | { readonly type: "package"; readonly folder: string };

/** The head of a test that looks at pages. */
export function onChromium(name: string): Needing {
  return needing(name, findChromium() === undefined ? MISSING : undefined, VARIABLE);
}

/** @throws {Deno.errors.NotFound} where there is none */
export async function openChromium(): Promise<Chromium> {
  const found = findChromium();
  if (found === undefined) throw new Deno.errors.NotFound(`Cannot find Chromium: ${MISSING}`);
  if (found.type === "machine") {
    return { path: found.path, env: {}, [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  const into = await Deno.makeTempDir({ prefix: "lembas-chromium-" });
  const remove = () => Deno.remove(into, { recursive: true });
  try {
    return { ...await unpack(found.folder, into), [Symbol.asyncDispose]: remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** The variable's program, the package's, or one on the search path. */
function findChromium(): Source | undefined {
  const named = Deno.env.get(VARIABLE);
  if (named && named !== "required") return { type: "machine", path: named };
  if (Deno.build.os === "linux" && Deno.build.arch === "x86_64") {
    const main = createRequire(import.meta.url).resolve("@sparticuz/chromium");
    return { type: "package", folder: `${dirname(dirname(main))}/bin` };
  }
  for (const name of NAMES) {
    const folder = folderOnPath(name);
    if (folder !== undefined) return { type: "machine", path: `${folder}/${name}` };
  }
  return undefined;
}

/** The program, the libraries that a bare machine lacks, and a font. */
async function unpack(bin: string, into: string): Promise<Pick<Chromium, "path" | "env">> {
  const path = `${into}/chromium`;
  const inflate = (name: string, out: NodeJS.WritableStream) =>
    pipeline(createReadStream(`${bin}/${name}.br`), createBrotliDecompress(), out);
  await Promise.all([
    inflate("chromium", createWriteStream(path, { mode: 0o700 })),
    inflate("al2023.tar", unpackTar(into)),
    inflate("fonts.tar", unpackTar(into)),
  ]);
  const fonts = `${into}/lembas-fonts.conf`;
  const folders = `<dir>${into}/fonts</dir><cachedir>${into}/fonts-cache</cachedir>`;
  await Deno.writeTextFile(fonts, `<fontconfig>${folders}</fontconfig>`);
  return { path, env: { LD_LIBRARY_PATH: `${into}/lib`, FONTCONFIG_FILE: fonts } };
}
