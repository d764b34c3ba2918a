/** npm run bench:compare -- base.json head.json [--relative 0.08] [--absolute 20e-6]: exit code 1 on a regression. */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { compare, isRegression } from './harness/compare.js';
import type { BenchFile } from './harness/result.js';
import { formatSeconds } from './harness/table.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    relative: { type: 'string', default: '0.08' },
    absolute: { type: 'string', default: '20e-6' },
  },
});
const [base, head] = positionals;
if (!base || !head) {
  console.error(
    'usage: npm run bench:compare -- base.json head.json [--relative 0.08] [--absolute 20e-6]',
  );
  process.exit(2);
}
const read = (file: string) => JSON.parse(readFileSync(file, 'utf8')) as BenchFile;
const comparisons = compare(read(base), read(head), {
  relative: Number(values.relative),
  absolute: Number(values.absolute),
});
for (const { key, verdict, ratio, base: b, head: h } of comparisons) {
  const times = [b, h]
    .map((s) => (s === undefined ? '-' : formatSeconds(s)).padStart(10))
    .join(' -> ');
  console.log(
    `${verdict.padEnd(8)} ${times}  ${Number.isNaN(ratio) ? '    ' : `${ratio.toFixed(2)}x`}  ${key}`,
  );
}
process.exitCode = isRegression(comparisons) ? 1 : 0;
