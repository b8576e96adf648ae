/**
 * The string formats, as patterns (ECMA 262, flag `u`) that match only strings of the format. A
 * pattern may match fewer than the format allows; `narrower` then says which. It must never match a
 * wrong one.
 */

export interface Format {
  readonly pattern: string;
  /** What the format's standard allows and the pattern does not. */
  readonly narrower?: string;
}

const LEAP_YEAR = "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)";
const DATE = "(?:\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])" +
  "|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))" +
  `|${LEAP_YEAR}-02-29)`;
const HOUR_MINUTE = "(?:[01]\\d|2[0-3]):[0-5]\\d";
const TIME = `${HOUR_MINUTE}:[0-5]\\d(?:\\.\\d{1,9})?(?:Z|[+-]${HOUR_MINUTE})`;
const OF_A_DAY = "\\d+H(?:\\d+M(?:\\d+S)?)?|\\d+M(?:\\d+S)?|\\d+S";
const OF_DAYS = "\\d+Y(?:\\d+M(?:\\d+D)?)?|\\d+M(?:\\d+D)?|\\d+D";

/** No two hyphens in a row, so that no label claims to be punycode. */
const LABEL = "[A-Za-z0-9](?:-?[A-Za-z0-9]){0,24}";
const HOST = `${LABEL}(?:\\.${LABEL}){0,4}`;
const ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\\-]{1,24}";

const BYTE = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
const IPV4 = `${BYTE}(?:\\.${BYTE}){3}`;
const GROUP = "[0-9a-fA-F]{1,4}";
const LAST_GROUPS = `(?:${GROUP}:${GROUP}|${IPV4})`;
const IPV6 = "(?:" + [
  `(?:${GROUP}:){6}${LAST_GROUPS}`,
  `::(?:${GROUP}:){5}${LAST_GROUPS}`,
  ...[0, 1, 2, 3, 4].map((before) =>
    `(?:(?:${GROUP}:){0,${before}}${GROUP})?::(?:${GROUP}:){${4 - before}}${LAST_GROUPS}`
  ),
  `(?:(?:${GROUP}:){0,5}${GROUP})?::${GROUP}`,
  `(?:(?:${GROUP}:){0,6}${GROUP})?::`,
].join("|") + ")";

const PERCENT = "%[0-9a-fA-F]{2}";
const UNRESERVED = "A-Za-z0-9\\-._~!$&'()*+,;=";
const PATH_CHARACTER = `(?:[${UNRESERVED}:@]|${PERCENT})`;
const AUTHORITY = `(?:(?:[${UNRESERVED}:]|${PERCENT})*@)?` +
  `(?:\\[${IPV6}\\]|(?:[${UNRESERVED}]|${PERCENT})*)(?::\\d*)?`;
const SEGMENTS = `(?:\\/${PATH_CHARACTER}*)*`;
const ABSOLUTE = `\\/(?:${PATH_CHARACTER}+${SEGMENTS})?`;
const QUERY = `(?:\\?(?:${PATH_CHARACTER}|[/?])*)?(?:#(?:${PATH_CHARACTER}|[/?])*)?`;
const URI = `[A-Za-z][A-Za-z0-9+\\-.]*:` +
  `(?:\\/\\/${AUTHORITY}${SEGMENTS}|${ABSOLUTE}|${PATH_CHARACTER}+${SEGMENTS})?${QUERY}`;
const RELATIVE = `(?:\\/\\/${AUTHORITY}${SEGMENTS}|${ABSOLUTE}` +
  `|(?:[${UNRESERVED}@]|${PERCENT})+${SEGMENTS})?${QUERY}`;

const POINTER = "(?:\\/(?:[^~/]|~[01])*)*";
const VARIABLE_CHARACTER = `(?:[A-Za-z0-9_]|${PERCENT})`;
const VARIABLE = `${VARIABLE_CHARACTER}(?:\\.?${VARIABLE_CHARACTER})*(?::[1-9]\\d{0,3}|\\*)?`;
const TEMPLATE = "(?:[!#$&(-;=?-\\[\\]_a-z~\\u00A0-\\uD7FF\\uF900-\\uFDCF\\uFDF0-\\uFFEF]" +
  `|${PERCENT}|\\{[+#./;?&]?${VARIABLE}(?:,${VARIABLE})*\\})*`;

/** By name. */
export const FORMATS: ReadonlyMap<string, Format> = new Map<string, Format>([
  ["date", { pattern: `^${DATE}$` }],
  ["time", {
    pattern: `^${TIME}$`,
    narrower: "no leap seconds, capital Z, up to nine digits behind the point",
  }],
  ["date-time", {
    pattern: `^${DATE}T${TIME}$`,
    narrower: "no leap seconds, capital T and Z, up to nine digits behind the point",
  }],
  ["duration", { pattern: `^P(?:(?:${OF_DAYS})(?:T(?:${OF_A_DAY}))?|T(?:${OF_A_DAY})|\\d+W)$` }],
  ["email", {
    pattern: `^${ATOM}(?:\\.${ATOM})?@${HOST}$`,
    narrower: "one or two atoms of up to 24 characters and a host name",
  }],
  ["hostname", {
    pattern: `^${HOST}$`,
    narrower: "up to five labels of up to 25 letters and digits, no two hyphens in a row",
  }],
  ["ipv4", { pattern: `^${IPV4}$` }],
  ["ipv6", { pattern: `^${IPV6}$` }],
  ["uuid", { pattern: "^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$" }],
  ["uri", { pattern: `^${URI}$`, narrower: "no host addresses of the future (`[v…]`)" }],
  ["uri-reference", {
    pattern: `^(?:${URI}|${RELATIVE})$`,
    narrower: "no host addresses of the future (`[v…]`)",
  }],
  ["uri-template", {
    pattern: `^${TEMPLATE}$`,
    narrower: "characters of the basic plane, no reserved operators",
  }],
  ["json-pointer", { pattern: `^${POINTER}$` }],
  ["relative-json-pointer", { pattern: `^(?:0|[1-9]\\d*)(?:#|${POINTER})$` }],
]);
