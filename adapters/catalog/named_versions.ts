/**
 * The versions of each name that is known in this process. A bare name means the newest load,
 * which need not be the highest version. A version number is never used twice, also after a
 * removal.
 */
import type { ServedCore } from "../../src/engine/request/request.ts";
import { FieldError, FieldRangeError } from "../../src/util/errors.ts";
import { type AdapterName, DEFAULT_TENANT, formatAdapterName, parseAdapterName } from "./name.ts";

/** A core and the number that it has under its name. */
interface Numbered {
  readonly version: number;
  readonly core: ServedCore;
}

/** The versions of a name. It stays when they are removed, so that no number is used twice. */
interface Versions {
  /** Oldest first. */
  readonly entries: readonly Numbered[];
  /** The version that the bare name means; undefined = none. */
  readonly current: number | undefined;
  /** The highest number given so far. */
  readonly latest: number;
}

const NO_VERSIONS: Versions = { entries: [], current: undefined, latest: 0 };

/** What a version holds. */
export type Content = Pick<ServedCore, "digest" | "factors" | "ranks" | "source" | "created">;

export class NamedVersions {
  /** By `tenant/name`. */
  readonly #names = new Map<string, Versions>();

  /**
   * Makes a name mean a content. The same content again is the same version; other content
   * becomes the next version, or the one that the name asks for, which the bare name then means
   * only where it is the highest.
   * @throws {FieldError | FieldRangeError} for a bad name or a taken version
   */
  add(text: string, content: Content): ServedCore {
    const parsed = parseAdapterName(text);
    const { tenant = DEFAULT_TENANT, name } = parsed;
    const model = `${tenant}/${name}`;
    const versions = this.#names.get(model) ?? NO_VERSIONS;
    const { entries, current = 0, latest } = versions;
    const isBare = parsed.version.type === "latest";
    const same = entries.find(({ core }) => core.digest === content.digest);
    if (same !== undefined) {
      if (isBare) this.#names.set(model, { ...versions, current: same.version });
      return same.core;
    }
    const version = versionFor(text, parsed, versions);
    const core = { ...content, name: formatAdapterName(tenant, name, version), tenant, model };
    this.#names.set(model, {
      entries: [...entries, { version, core }].sort((a, b) => a.version - b.version),
      current: isBare ? version : Math.max(current, version),
      latest: Math.max(latest, version),
    });
    return core;
  }

  /**
   * The version that a name stands for, or undefined where there is none.
   * @throws {FieldError} for a name that cannot be one; {FieldRangeError} of the field `model` where a
   *   bare name or a digest prefix fits more than one adapter
   */
  resolve(name: string): ServedCore | undefined {
    const parsed = parseAdapterName(name);
    const key = this.#keyOf(name, parsed);
    const versions = key === undefined ? undefined : this.#names.get(key);
    return versions === undefined ? undefined : pick(name, parsed, versions)?.core;
  }

  /** All versions of all adapters, by name. */
  list(): readonly ServedCore[] {
    return [...this.#names].sort(([a], [b]) => a < b ? -1 : 1)
      .flatMap(([, { entries }]) => entries.map(({ core }) => core));
  }

  /**
   * Removes one version where the name says which, else all. If the bare name meant a removed
   * version, it means the one before it, or nothing. Requests in flight keep their leases.
   * Returns what was removed.
   */
  remove(name: string): readonly ServedCore[] {
    const parsed = parseAdapterName(name);
    const key = this.#keyOf(name, parsed);
    const versions = key === undefined ? undefined : this.#names.get(key);
    if (key === undefined || versions === undefined) return [];
    const { entries, latest } = versions;
    const one = pick(name, parsed, versions);
    const gone = parsed.version.type === "latest" ? entries : entries.filter((e) => e === one);
    const left = entries.filter((other) => !gone.includes(other));
    this.#names.set(key, { entries: left, current: currentOf(left, versions), latest });
    return gone.map(({ core }) => core);
  }

  #keyOf(text: string, { tenant, name }: AdapterName): string | undefined {
    if (tenant !== undefined) return `${tenant}/${name}`;
    const keys = [...this.#names].flatMap(([key, { entries }]) =>
      entries.length > 0 && key.endsWith(`/${name}`) ? key : []
    );
    if (keys.length < 2) return keys[0];
    throw new FieldRangeError(
      "model",
      `Cannot choose adapter '${text}': it is ambiguous, there are ${keys.sort().join(", ")}`,
    );
  }
}

/** The version that the bare name means where `left` is left of its versions. */
function currentOf(left: readonly Numbered[], { current = 0 }: Versions): number | undefined {
  return left.findLast(({ version }) => version <= current)?.version;
}

function versionFor(text: string, name: AdapterName, { entries, latest }: Versions): number {
  switch (name.version.type) {
    case "latest":
      return latest + 1;
    case "digest":
      throw new FieldError("name", `Cannot load adapter '${text}': give a version number, or none`);
    case "number": {
      const { number } = name.version;
      const entry = entries.find((other) => other.version === number);
      if (entry === undefined) return number;
      throw new FieldRangeError(
        "name",
        `Cannot load adapter '${text}': version ${number} is core ${entry.core.digest}`,
      );
    }
  }
}

function pick(
  text: string,
  { version }: AdapterName,
  { entries, current }: Versions,
): Numbered | undefined {
  switch (version.type) {
    case "latest":
      return entries.find((entry) => entry.version === current);
    case "number":
      return entries.find((entry) => entry.version === version.number);
    case "digest": {
      const fits = entries.filter((entry) => entry.core.digest.startsWith(version.prefix));
      if (fits.length < 2) return fits[0];
      throw new FieldRangeError(
        "model",
        `Cannot choose adapter '${text}': ${fits.map((e) => e.core.digest).join(", ")} fit`,
      );
    }
  }
}
