/**
 * How a file or directory comes into the cache directory whole or not at all, whoever else writes at
 * the same time.
 */

/**
 * Writes a small file so that a reader sees all of it or none, and so that it is still there after
 * the machine lost its power.
 */
export async function writeAtomically(path: string, content: string | Uint8Array): Promise<void> {
  const temporary = temporaryBeside(path);
  await Deno.mkdir(parentOf(path), { recursive: true });
  try {
    await writeSynced(temporary, content);
    await Deno.rename(temporary, path);
  } catch (error) {
    await removeIfThere(temporary);
    throw error;
  }
  await syncDirectory(parentOf(path));
}

async function writeSynced(path: string, content: string | Uint8Array): Promise<void> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  using file = await Deno.open(path, { write: true, createNew: true });
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
  await file.sync();
}

/** Makes the names in a directory durable; where directories cannot be opened, they are already. */
export async function syncDirectory(path: string): Promise<void> {
  if (Deno.build.os === "windows") return;
  using directory = await Deno.open(path, { read: true });
  await directory.sync();
}

/** A name beside `path` that no other process or call uses. */
export function temporaryBeside(path: string): string {
  return `${path}.${Deno.pid}-${crypto.randomUUID()}.tmp`;
}

export async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

export function parentOf(path: string): string {
  return path.replace(/[/\\][^/\\]*$/, "");
}

/**
 * Makes the directory `destination` by `fill`, once: whoever comes second, in this process or
 * another, waits and finds it. `fill` gets a directory beside it that is moved into place at the
 * end; what an interrupted run has left there is still in it.
 *
 * @throws what `fill` throws; what it has put into the directory stays for the next try
 */
export async function createOnce(
  destination: string,
  fill: (partial: string) => Promise<void>,
): Promise<void> {
  if (await exists(destination)) return;
  await Deno.mkdir(parentOf(destination), { recursive: true });
  using lock = await Deno.open(`${destination}.lock`, { create: true, write: true });
  await lock.lock(true);
  if (await exists(destination)) return;
  const partial = `${destination}.partial`;
  await Deno.mkdir(partial, { recursive: true });
  try {
    await fill(partial);
  } catch (error) {
    await removeIfEmpty(partial);
    throw error;
  }
  await Deno.rename(partial, destination);
}

async function removeIfEmpty(directory: string): Promise<void> {
  try {
    await Deno.remove(directory);
  } catch {
    // It holds what the next try continues with.
  }
}
