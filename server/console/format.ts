/** Numbers, sizes and times as the console writes them, in English and UTC. */
import { formatBytes } from "../../src/util/bytes.ts";

export { formatBytes };

/** `12,345`; at most one decimal below 100. */
export function formatNumber(value: number): string {
  const digits = Math.abs(value) < 100 && !Number.isInteger(value) ? 1 : 0;
  return value.toLocaleString("en-US", { maximumFractionDigits: digits });
}

/** `0.4231` → `42%`. */
export function formatShare(share: number): string {
  return `${formatNumber(100 * share)}%`;
}

/** Unix milliseconds as `2026-01-31 12:00`. */
export function formatTime(milliseconds: number): string {
  return new Date(milliseconds).toISOString().slice(0, 16).replace("T", " ");
}

/** Milliseconds as people say it: `3 min`. */
export function formatDuration(milliseconds: number): string {
  const seconds = Math.max(0, milliseconds / 1000);
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 36 * 3600) return `${formatNumber(seconds / 3600)} h`;
  return `${formatNumber(seconds / 86400)} days`;
}

/** The first characters of a digest. */
export function shortDigest(digest: string): string {
  return digest.slice(0, 12);
}
