/** Quantities as people read them. */

/**
 * A duration, with its two leading units.
 *
 * @param seconds any number; what is not finite or negative gives `--`
 * @example
 * formatDuration(0.42); // '0.4s'
 * formatDuration(75); // '1m15s'
 * formatDuration(7260); // '2h01m'
 */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return '--';
  if (seconds < 9.95) return `${seconds.toFixed(1)}s`;
  const whole = Math.round(seconds);
  const two = (n: number): string => String(n).padStart(2, '0');
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)}h${two(minutes % 60)}m`;
  const hours = Math.round(seconds / 3600);
  return `${Math.floor(hours / 24)}d${two(hours % 24)}h`;
}

/**
 * A rate with three significant digits and a decimal prefix.
 *
 * @param perSecond units per second; what is not finite or negative gives `--`
 * @example
 * formatRate(15234, 'tok'); // '15.2k tok/s'
 */
export function formatRate(perSecond: number, unit: string): string {
  if (!Number.isFinite(perSecond) || perSecond < 0) return `-- ${unit}/s`;
  const prefixes = ['', 'k', 'M', 'G', 'T'];
  let value = perSecond;
  let i = 0;
  while (i < prefixes.length - 1 && Number(value.toPrecision(3)) >= 1000) {
    value /= 1000;
    i++;
  }
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(value >= 1000 ? 0 : digits)}${prefixes[i]} ${unit}/s`;
}

/**
 * Bytes with three significant digits and a decimal prefix.
 *
 * @example
 * formatBytes(9_701_144); // '9.70 MB'
 */
export function formatBytes(bytes: number): string {
  return formatRate(bytes, 'B')
    .replace(/(\D?) B\/s$/, ' $1B')
    .replace(/^(\d+)\.00 B$/, '$1 B');
}

/**
 * A whole number with its thousands apart.
 *
 * @example
 * formatCount(3274752); // '3,274,752'
 */
export function formatCount(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+$)/g, ',');
}
