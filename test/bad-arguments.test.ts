/** Every export of the package: a valid call, each of its arguments and options spoilt in turn. */
import { mkdirSync, writeFileSync } from 'node:fs';
import * as longspan from 'longspan';
import { LongspanError } from 'longspan';
import { exempt, instances, internal, takes, validCalls } from './support/calls/index.js';
import { temporaryDirectory } from './temporary.js';

type Callable = (...args: never[]) => unknown;
type Place = readonly (string | number)[];

const path = temporaryDirectory();
const calls = validCalls(path);
const before = process.cwd();

beforeAll(async () => {
  process.chdir(path()); // 'junk' is a path as well
  mkdirSync(path('corpus'));
  const text = 'to be, or not to be: that is the question\n'.repeat(10);
  for (const name of ['a', 'b', 'c']) writeFileSync(path(`corpus/${name}.txt`), `${name} ${text}`);
  const { Linear, saveCheckpoint, saveTensors, TransformerLM, zeros } = longspan;
  await saveCheckpoint(path('checkpoint.safetensors'), new Linear(4, 2), { step: 1 });
  const sizes = { vocabSize: 256, dModel: 8, layers: 1, heads: 2, maxLength: 16 };
  await saveCheckpoint(path('lm.safetensors'), new TransformerLM(sizes), { step: 1 });
  await saveTensors(path('gpt2.safetensors'), {
    ...{ 'wte.weight': zeros([8, 8]), 'wpe.weight': zeros([16, 8]), 'ln_f.weight': zeros([8]) },
    ...{ 'h.0.attn.c_attn.weight': zeros([8, 24]), 'h.0.attn.c_attn.bias': zeros([24]) },
    ...{ 'h.0.attn.c_proj.weight': zeros([8, 8]), 'h.0.attn.c_proj.bias': zeros([8]) },
    ...{ 'h.0.mlp.c_fc.weight': zeros([8, 32]), 'h.0.mlp.c_fc.bias': zeros([32]) },
    ...{ 'h.0.mlp.c_proj.weight': zeros([32, 8]), 'h.0.mlp.c_proj.bias': zeros([8]) },
    ...{ 'h.0.ln_1.weight': zeros([8]), 'h.0.ln_1.bias': zeros([8]), 'ln_f.bias': zeros([8]) },
    ...{ 'h.0.ln_2.weight': zeros([8]), 'h.0.ln_2.bias': zeros([8]) },
  });
});
afterAll(() => process.chdir(before));

const junk: readonly unknown[] = [undefined, null, 'junk', 7.5, Number.NaN, {}, []];

const exported = new Map<string, unknown>(Object.entries(longspan));
const isClass = (f: unknown) => /^class\b/.test(Function.prototype.toString.call(f));
const isPlain = (x: unknown): x is Record<string, unknown> =>
  typeof x === 'object' && x !== null && Object.getPrototypeOf(x) === Object.prototype;

/** What kind of value something is, in the words of `takes`. */
function kindOf(x: unknown): string {
  if (x === null) return 'null';
  if (Array.isArray(x)) return 'list';
  if (typeof x === 'number') return Number.isNaN(x) ? 'NaN' : 'number';
  if (typeof x !== 'object') return typeof x;
  return isPlain(x) ? 'object' : x.constructor.name;
}

/** `name` of the table, without what tells several calls of one function apart. */
const functionOf = (name: string) => name.replace(/,.*/, '');

function callableOf(name: string): Callable {
  const [owner, member] = functionOf(name).split('.') as [string, string?];
  const value = exported.get(owner) as Callable & Record<string, Callable>;
  return member ? (value[member] as Callable).bind(value) : value;
}

/** Calls and waits; of what yields, the first three values. */
async function run(f: Callable, args: readonly unknown[]): Promise<void> {
  const given = args as never[];
  const made = isClass(f)
    ? new (f as unknown as new (...args: never[]) => unknown)(...given)
    : f(...given);
  const result = made instanceof Promise ? await made : made;
  const iterator = result as Partial<AsyncGenerator> | undefined;
  if (typeof iterator?.next !== 'function' || typeof iterator.return !== 'function') return;
  for (let n = 0; n < 3; n++) if ((await iterator.next()).done) break;
}

/** Every argument, every option, and what stands in those. */
function* placesIn(value: unknown, at: Place): Generator<Place> {
  yield at;
  if (at.length > 4) return;
  if (isPlain(value)) {
    for (const [name, inner] of Object.entries(value)) yield* placesIn(inner, [...at, name]);
  } else if (Array.isArray(value) && value.length > 0) yield* placesIn(value[0], [...at, 0]);
}

function read(args: unknown, at: Place): unknown {
  return at.reduce((value, key) => (value as Record<string | number, unknown>)[key], args);
}

/** `args` with something else in one place. */
function spoilt(args: unknown, [key, ...rest]: Place, now: unknown): unknown {
  if (key === undefined) return now;
  const copy = (Array.isArray(args) ? [...args] : { ...(args as object) }) as Record<
    string | number,
    unknown
  >;
  copy[key] = spoilt(copy[key], rest, now);
  return copy;
}

/** What an error that a caller cannot make sense of says; nothing for others. */
function faultOf(error: unknown): string | undefined {
  if (!(error instanceof LongspanError)) return `threw ${error}`;
  if (!error.code || error.message.length < 20) return `threw an error that says little: ${error}`;
  return undefined;
}

const rows = Object.keys(calls);

test('every function and class has a valid call, or a reason why it needs none', () => {
  const callable = [...exported].filter(([, f]) => typeof f === 'function');
  expect(callable.length).toBeGreaterThan(260);
  const known = new Set([...rows.map(functionOf), ...Object.keys(exempt)]);
  expect(callable.map(([name]) => name).filter((name) => !known.has(name))).toEqual([]);
  expect(Object.keys(exempt).filter((name) => !(name in longspan))).toEqual([]);
  expect(Object.keys(exempt).length).toBeLessThan(32);
});

test.each(rows)('%s', async (name) => {
  const make = calls[name] as () => readonly unknown[];
  const f = callableOf(name);
  await run(f, make());
  const faults: string[] = [];
  let refused = 0;
  for (const at of make().flatMap((value, i) => [...placesIn(value, [i])])) {
    const was = kindOf(read(make(), at));
    const place = at.join('.');
    for (const now of junk) {
      const kind = kindOf(now);
      try {
        await run(f, spoilt(make(), at, now) as unknown[]);
        const allowed = now === undefined || kind === was || takes(name, place).includes(kind);
        if (!allowed) faults.push(`${place} is ${kind} instead of ${was}: taken`);
      } catch (error) {
        refused++;
        const fault = faultOf(error);
        if (fault) faults.push(`${place} is ${kind} instead of ${was}: ${fault}`);
      }
    }
  }
  expect(faults).toEqual([]);
  // A predicate answers every value.
  if (name !== 'isSafetensorsDtype') expect(refused).toBeGreaterThan(0);
});

test.each(Object.keys(instances(path)))('methods of %s', async (name) => {
  const make = instances(path)[name] as () => object;
  const faults: string[] = [];
  let refused = 0;
  const methods = new Set<string>();
  for (
    let at = Object.getPrototypeOf(make());
    at !== Object.prototype;
    at = Object.getPrototypeOf(at)
  ) {
    for (const [key, { value }] of Object.entries(Object.getOwnPropertyDescriptors(at))) {
      const own = internal.has(`${at.constructor.name}.${key}`);
      if (key !== 'constructor' && typeof value === 'function' && !own) methods.add(key);
    }
  }
  for (const method of methods) {
    for (const now of junk) {
      for (const count of [1, 2, 4]) {
        const object = make() as Record<string, Callable>;
        try {
          const f = (object[method] as Callable).bind(object);
          await run(f, new Array(count).fill(now));
        } catch (error) {
          refused++;
          const fault = faultOf(error);
          if (fault) faults.push(`${method}(${kindOf(now)} x ${count}): ${fault}`);
        }
        (object as { [Symbol.dispose]?: () => void })[Symbol.dispose]?.();
      }
    }
  }
  expect([...new Set(faults)]).toEqual([]);
  expect(refused).toBeGreaterThan(0);
});
