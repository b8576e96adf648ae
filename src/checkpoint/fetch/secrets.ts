/**
 * Addresses as they may stand in a log, an answer or a file: without user, password and tokens. A
 * password may hold "@", "/", "?" or "#" as they are, and a parser then takes half of it for a host or
 * a path: what is not surely an address is hidden whole.
 */

const HIDDEN = "…";
/** Names of parameters that hold what nobody else is to know. */
const SECRET = /pass|secret|token|key|auth|credential|signature/i;

/** One address. */
export function withoutSecret(url: string): string {
  const parsed = URL.parse(url);
  const [, scheme = ""] = /^([a-z][a-z0-9+.-]*:\/\/)/i.exec(url) ?? [];
  if (parsed === null || scheme === "" || isDoubtful(parsed)) return `${scheme}${HIDDEN}`;
  const { protocol, host, pathname, searchParams } = parsed;
  const parameters = [...searchParams].map(([name, value]) =>
    `${encodeURIComponent(name)}=${SECRET.test(name) ? HIDDEN : encodeURIComponent(value)}`
  );
  const search = parameters.length === 0 ? "" : `?${parameters.join("&")}`;
  return `${protocol}//${host}${pathname === "/" ? "" : pathname}${search}`;
}

/** A text that should be an address and is none: as it is, where it can hold no user. */
export function shownAddress(text: string): string {
  return text.includes("@") ? withoutSecret(text) : text;
}

/** Each address in a text. */
export function withoutSecrets(text: string): string {
  return text.replaceAll(/[a-z][a-z0-9+.-]*:\/\/[^\s'"<>,]+/gi, withoutSecret);
}

/** An "@" behind the host: the host is the beginning of a password. */
function isDoubtful({ pathname, search, hash }: URL): boolean {
  return `${pathname}${search}${hash}`.includes("@");
}
