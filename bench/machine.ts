/**
 * What a figure was measured on: processor, memory and versions, so that a line of results says by
 * itself what it may be compared with. It measures nothing.
 */
import deno from "../deno.json" with { type: "json" };

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly os: string;
  readonly deno: string;
  readonly onnxruntime: string;
  readonly lembas: string;
  /** The commit's short name; undefined outside a checkout. */
  readonly commit: string | undefined;
}

/** Describes this machine and this tree. */
export async function describeMachine(): Promise<Machine> {
  return {
    cpu: await cpuModel(),
    cores: navigator.hardwareConcurrency,
    memoryGiB: Math.round(Deno.systemMemoryInfo().total / 2 ** 30),
    os: `${Deno.build.os} ${Deno.build.arch}`,
    deno: Deno.version.deno,
    onnxruntime: deno.imports["onnxruntime-node"].split("@").at(-1) ?? "",
    lembas: deno.version,
    commit: await firstLine("git", ["rev-parse", "--short", "HEAD"]),
  };
}

/** The processor's name, with family and model where the name says little. */
async function cpuModel(): Promise<string> {
  if (Deno.build.os === "darwin") {
    return await firstLine("sysctl", ["-n", "machdep.cpu.brand_string"]) ?? "unknown";
  }
  const text = await Deno.readTextFile("/proc/cpuinfo").catch(() => "");
  const field = (name: string) => new RegExp(`^${name}\\s*: (.*)$`, "m").exec(text)?.[1];
  const name = field("model name") ?? "unknown";
  return `${name} (family ${field("cpu family")}, model ${field("model")})`;
}

async function firstLine(command: string, args: readonly string[]): Promise<string | undefined> {
  const cwd = new URL("..", import.meta.url);
  try {
    const run = new Deno.Command(command, { args: [...args], cwd, stderr: "null" });
    const { success, stdout } = await run.output();
    return success ? new TextDecoder().decode(stdout).trim().split("\n")[0] : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
