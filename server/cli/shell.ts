/** Words of a command line for people to copy. It runs nothing. */

/** A word as a POSIX shell wants it. */
export function shellQuote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
