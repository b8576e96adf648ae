/** C's `strftime` in the C locale and local time, as far as chat templates ask for it. */

const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];

type Formatter = (date: Date) => string;

const FORMATTERS: ReadonlyMap<string, Formatter> = new Map<string, Formatter>([
  ["a", (date) => (DAYS[date.getDay()] ?? "").slice(0, 3)],
  ["A", (date) => DAYS[date.getDay()] ?? ""],
  ["b", (date) => (MONTHS[date.getMonth()] ?? "").slice(0, 3)],
  ["B", (date) => MONTHS[date.getMonth()] ?? ""],
  ["d", (date) => padded(date.getDate(), 2)],
  ["e", (date) => String(date.getDate()).padStart(2, " ")],
  ["H", (date) => padded(date.getHours(), 2)],
  ["I", (date) => padded((date.getHours() + 11) % 12 + 1, 2)],
  ["j", (date) => padded(dayOfYear(date), 3)],
  ["m", (date) => padded(date.getMonth() + 1, 2)],
  ["M", (date) => padded(date.getMinutes(), 2)],
  ["p", (date) => date.getHours() < 12 ? "AM" : "PM"],
  ["S", (date) => padded(date.getSeconds(), 2)],
  ["y", (date) => padded(date.getFullYear() % 100, 2)],
  ["Y", (date) => String(date.getFullYear())],
  ["F", (date) => strftime(date, "%Y-%m-%d")],
  ["T", (date) => strftime(date, "%H:%M:%S")],
  ["%", () => "%"],
]);

/**
 * The date in the given format; `%-d` and its like go without padding, as in glibc.
 *
 * @throws {TypeError} for a conversion that is not known
 */
export function strftime(date: Date, format: string): string {
  return format.replace(/%(-?)(.)/gs, (whole, dash: string, letter: string) => {
    const text = FORMATTERS.get(letter)?.(date);
    if (text === undefined) throw new TypeError(`Cannot format a date with '${whole}'`);
    return dash === "-" ? text.replace(/^[0 ]+(?=.)/, "") : text;
  });
}

function padded(value: number, width: number): string {
  return String(value).padStart(width, "0");
}

function dayOfYear(date: Date): number {
  const start = Date.UTC(date.getFullYear(), 0, 0);
  return Math.round(
    (Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) - start) / 864e5,
  );
}
