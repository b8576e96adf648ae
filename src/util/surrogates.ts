/**
 * Text with half a character: a UTF-16 surrogate without its other half, as a JSON escape can spell it
 * and a cut through an emoji leaves it. A tokenizer would read U+FFFD, and say nothing.
 */

/** A clause that names the first such half; undefined where the text is whole. */
export function halfCharacter(text: string): string | undefined {
  if (text.isWellFormed()) return undefined;
  const at = text.search(/\p{Surrogate}/u);
  const half = text.charCodeAt(at).toString(16);
  return `half a character (\\u${half}) at position ${at + 1}; give both halves, or leave it out`;
}
