/** What the store says while it works; the server's log is one. */
export interface StoreLog {
  info(message: string, fields?: Readonly<Record<string, string | number | undefined>>): void;
  warning(message: string, fields?: Readonly<Record<string, string | number | undefined>>): void;
}
