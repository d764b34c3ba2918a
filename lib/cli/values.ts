/** Values on the command line: parsed and checked before anything is loaded. */

import { InvalidArgumentError } from 'commander';

/** Bounds of a number, both included. */
export interface Bounds {
  min?: number;
  max?: number;
}

function within(value: number, text: string, what: string, { min, max }: Bounds): number {
  const tooLow = min !== undefined && value < min;
  const tooHigh = max !== undefined && value > max;
  if (Number.isFinite(value) && !tooLow && !tooHigh) return value;
  const range =
    min !== undefined && max !== undefined
      ? ` from ${min} to ${max}`
      : min !== undefined
        ? ` of at least ${min}`
        : max !== undefined
          ? ` of at most ${max}`
          : '';
  throw new InvalidArgumentError(`'${text}' is not ${what}${range}.`);
}

/** Parser of a whole number; `1_000` and `4k` (1000) are understood. */
export function integer(bounds: Bounds = {}): (text: string) => number {
  return (text) => {
    const match = /^(-?\d+(?:_\d+)*)([kM]?)$/.exec(text);
    const unit = match?.[2] === 'k' ? 1e3 : match?.[2] === 'M' ? 1e6 : 1;
    const value = match ? Number(match[1].replaceAll('_', '')) * unit : Number.NaN;
    return within(Number.isSafeInteger(value) ? value : Number.NaN, text, 'a whole number', bounds);
  };
}

/** Parser of a number such as `0.9` or `3e-4`. */
export function decimal(bounds: Bounds = {}): (text: string) => number {
  return (text) => {
    const value = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : Number.NaN;
    return within(value, text, 'a number', bounds);
  };
}

const unitSeconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600 };

/** Parses a duration into seconds: `90`, `90s`, `15m`, `1h30m`. */
export function duration(text: string): number {
  if (/^\d+(\.\d+)?$/.test(text) && Number(text) > 0) return Number(text);
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)([smh])/g)];
  const seconds = parts.reduce((sum, [, n, unit]) => sum + Number(n) * unitSeconds[unit], 0);
  if (parts.length > 0 && parts.map(([part]) => part).join('') === text && seconds > 0)
    return seconds;
  throw new InvalidArgumentError(`'${text}' is not a duration. Examples: 90s, 15m, 1h30m.`);
}

/** Parses the name of a device; whether it can be used is found out later. */
export function deviceName(text: string): string {
  if (/^(cpu|cuda(:\d{1,3})?|auto)$/.test(text)) return text;
  throw new InvalidArgumentError(`'${text}' is not a device. Use cpu, cuda, cuda:N or auto.`);
}
