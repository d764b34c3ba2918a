import type { DoctorReport } from './examine.js';

const levels: Readonly<Record<string, string>> = {
  portable: 'portable (no AVX2: expect a fraction of the speed)',
  v3: 'v3 (AVX2, FMA)',
  v4: 'v4 (AVX-512)',
};

const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

/** The report as lines for people: what is there with `ok`, what is missing with its cure. */
export function describe(report: DoctorReport): string {
  const { cpu, memory, addon, cuda } = report;
  const rows: [mark: string, name: string, text: string][] = [
    ['ok', 'longspan', report.longspan],
    ['ok', 'node', `${report.node} (Node-API ${report.nodeApi}, V8 ${report.v8})`],
    [
      'ok',
      'system',
      `${report.platform}, kernel ${report.kernel}, ${report.glibc ? `glibc ${report.glibc}` : 'no glibc'}`,
    ],
    ['ok', 'processor', `${cpu.model}, ${cpu.usable} of ${cpu.logical} processors usable`],
    [
      'ok',
      'memory',
      `${gib(memory.total)}, ${gib(memory.free)} free${memory.limit === null ? '' : `, container limit ${gib(memory.limit)}`}`,
    ],
  ];
  if (addon.loaded) {
    rows.push(
      ['ok', 'addon', `${addon.file}, ${addon.operators} operators`],
      ['ok', 'cpu level', levels[addon.cpuLevel ?? ''] ?? String(addon.cpuLevel)],
      ['ok', 'threads', `${addon.threads} (LONGSPAN_NUM_THREADS changes it)`],
    );
  } else {
    rows.push(['--', 'addon', `not loaded: ${addon.error}`]);
  }
  rows.push(cuda.usable ? ['ok', 'cuda', 'usable'] : ['--', 'cuda', cuda.missing ?? 'not usable']);
  if (cuda.cublasLt !== undefined) rows.push(['ok', 'cuBLASLt', cuda.cublasLt]);
  const settings = Object.entries(report.environment).map(([name, value]) => `${name}=${value}`);
  if (settings.length > 0) rows.push(['ok', 'settings', settings.join(' ')]);
  return rows.map(([mark, name, text]) => `${mark}  ${name.padEnd(10)} ${text}`).join('\n');
}
