/** Runs golden cases through the adapters of their mechanisms and judges what comes back. */
import { type Device, device as deviceOf, type Tensor, tidy } from 'longspan';
import { type Golden, type Precision, readGolden } from '../goldens.js';
import { values } from '../support/compare.js';
import {
  type Adapter,
  CaseInputs,
  type Computed,
  type NotOffered,
  type Partly,
} from './adapter.js';
import { type Deviation, deviation, hasTolerance, naiveTolerance } from './compare.js';

/** What became of a case. */
export interface Report {
  id: string;
  folder: string;
  /** Unknown where the manifest cannot be read. */
  mechanism: string;
  /** `skipped` where nothing of the case is offered. */
  verdict: 'passed' | 'failed' | 'skipped';
  /** The element furthest off, in units of its tolerance. */
  worst: ({ tensor: string } & Deviation) | null;
  /** How many tensors were held against the manifest. */
  compared: number;
  /** Why it failed, one sentence for each tensor. */
  failures: string[];
  /** What is not offered, the whole case under its id, with the reason. */
  notOffered: Record<string, string>;
}

export interface RunOptions {
  dtype: Precision;
  device: Device;
  adapters: readonly Adapter[];
  /** Only cases of these mechanisms; all by default. */
  only?: readonly string[];
}

const isNotOffered = (value: object): value is NotOffered => 'notOffered' in value;
const isPartly = (value: object): value is Partly => 'offers' in value;
const isWhole = (value: Computed | NotOffered): value is NotOffered =>
  typeof value.notOffered === 'string';
const own = (computed: Computed, name: string): Computed[string] | undefined =>
  Object.hasOwn(computed, name) ? computed[name] : undefined;
const isTensor = (value: object): value is Tensor => 'isTensor' in value;

function show({ index, actual, expected, tolerance }: Deviation): string {
  return `[${index.join(', ')}] is ${actual} instead of ${expected} (tolerance ${tolerance})`;
}

function valuesOf(found: Tensor | ArrayLike<number>): ArrayLike<number> {
  return isTensor(found) ? values(found) : found;
}

/**
 * Judges the computed tensors of a case by its manifest.
 *
 * @param naive the same in float64 on rounded inputs, for 16-bit types without a tolerance
 */
export function judge(
  golden: Golden,
  computed: Computed,
  dtype: Precision,
  naive?: Computed,
): Omit<Report, 'folder'> {
  const { id, mechanism, tensors } = golden.manifest;
  const failures: string[] = [];
  const notOffered: Record<string, string> = {};
  let worst: Report['worst'] = null;
  let compared = 0;
  const expected = Object.entries(tensors).filter(
    ([, { role, compare }]) => (role === 'output' || role === 'gradient') && compare !== 'none',
  );
  for (const [name, stated] of expected) {
    const given = own(computed, name);
    if (given === undefined) {
      failures.push(`${name} was not computed`);
      continue;
    }
    if (isNotOffered(given)) {
      notOffered[name] = given.notOffered;
      continue;
    }
    const found = isPartly(given) ? given.values : given;
    if (isPartly(given)) notOffered[`${name} in part`] = given.otherwise;
    const wanted = golden.tensor(name).data;
    const shape = isTensor(found) ? found.shape : [found.length];
    const fits = isTensor(found)
      ? shape.join() === stated.shape.join()
      : found.length === wanted.length;
    if (!fits) {
      failures.push(`${name} is [${shape.join(', ')}] instead of [${stated.shape.join(', ')}]`);
      continue;
    }
    let info = stated;
    if (!hasTolerance(stated, dtype)) {
      const formula = own(naive ?? {}, name);
      if (formula === undefined || isNotOffered(formula)) {
        notOffered[name] = `the manifest gives no tolerance for ${dtype}`;
        continue;
      }
      const exact = isPartly(formula) ? formula.values : formula;
      const tolerance = naiveTolerance(valuesOf(exact), wanted, stated, dtype);
      info = { ...stated, atol: { [dtype]: tolerance } };
    }
    compared++;
    const offers = isPartly(given) ? given.offers : undefined;
    const off = deviation(valuesOf(found), wanted, info, dtype, offers);
    if (worst === null || off.ratio > worst.ratio) worst = { tensor: name, ...off };
    if (!(off.ratio <= 1)) failures.push(`${name}${show(off)}`);
  }
  if (expected.length === 0) failures.push('the manifest expects nothing that can be compared');
  const verdict = failures.length > 0 ? 'failed' : compared > 0 ? 'passed' : 'skipped';
  return { id, mechanism, verdict, worst, compared, failures, notOffered };
}

/** The formula in float64 on inputs rounded to a 16-bit type, on the CPU, which has float64. */
async function naiveForm(
  adapter: Adapter,
  golden: Golden,
  dtype: Precision,
): Promise<Computed | undefined> {
  if (!adapter.single || (dtype !== 'bf16' && dtype !== 'f16')) return undefined;
  const computed = await adapter.run(new CaseInputs(golden, 'f64', deviceOf('cpu'), dtype));
  return isWhole(computed) ? undefined : computed;
}

/**
 * Runs one case of a folder. Never throws: what goes wrong makes the case fail.
 *
 * @returns undefined for a case of a mechanism that is not asked for
 */
export async function runCase(
  folder: string,
  id: string,
  { dtype, device, adapters, only }: RunOptions,
): Promise<Report | undefined> {
  const bare: Report = {
    id,
    folder,
    mechanism: '?',
    verdict: 'failed',
    worst: null,
    compared: 0,
    failures: [],
    notOffered: {},
  };
  try {
    const golden = readGolden(folder, id);
    bare.mechanism = golden.manifest.mechanism;
    if (only && !only.includes(bare.mechanism)) return undefined;
    const adapter = adapters.find(({ mechanism }) => mechanism === bare.mechanism);
    if (!adapter) {
      const reason = `${bare.mechanism} is not part of the package yet`;
      return { ...bare, verdict: 'skipped', notOffered: { [id]: reason } };
    }
    return await tidy(async () => {
      const computed = await adapter.run(new CaseInputs(golden, dtype, device));
      if (isWhole(computed)) {
        return { ...bare, verdict: 'skipped', notOffered: { [id]: computed.notOffered } };
      }
      const naive = await naiveForm(adapter, golden, dtype);
      return { folder, ...judge(golden, computed, dtype, naive) };
    });
  } catch (error) {
    return { ...bare, failures: [error instanceof Error ? error.message : String(error)] };
  }
}
