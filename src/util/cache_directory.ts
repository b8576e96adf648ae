/** Where the cache directory is. */

/** Reads an environment variable; `Deno.env.get` or a stand-in. */
export type Environment = (name: string) => string | undefined;

/**
 * `LEMBAS_HOME`, or `lembas` under the user's cache directory (XDG's on Linux).
 *
 * @throws {TypeError} where the environment names none
 */
export function cacheDirectory(env: Environment = (name) => Deno.env.get(name)): string {
  const own = env("LEMBAS_HOME");
  if (own) return own;
  const home = env("HOME") ?? env("USERPROFILE");
  const base = env("XDG_CACHE_HOME") || env("LOCALAPPDATA") ||
    (home ? `${home}/.cache` : undefined);
  if (base === undefined) {
    throw new TypeError("Cannot find a cache directory: set LEMBAS_HOME to a directory");
  }
  return `${base}/lembas`;
}
