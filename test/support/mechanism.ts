/** Tests that every mechanism passes, whatever it computes. */
import {
  type Device,
  type DType,
  device,
  Generator,
  type Graph,
  KvPages,
  type Mechanism,
  type MechanismState,
  noGrad,
  normal,
  rotary,
  type Tensor,
  tensor,
} from 'longspan';
import { expectClose, values } from './compare.js';

export interface MechanismCase {
  batch?: number;
  heads?: number;
  kvHeads?: number;
  length?: number;
  dim?: number;
  valueDim?: number;
  dtype?: DType;
  /** Tokens of a page, for states in pages. */
  pageSize?: number;
  /** Whether the mechanism is in training, where steps and forward draw apart. */
  training?: boolean;
}

interface Heads {
  q: Tensor;
  k: Tensor;
  v: Tensor;
}

type Three = [q: Tensor, k: Tensor, v: Tensor];

const complete = ({
  batch = 2,
  heads = 4,
  kvHeads = heads,
  length = 13,
  dim = 8,
  valueDim = dim,
  dtype = 'f32',
}: MechanismCase) => ({ batch, heads, kvHeads, length, dim, valueDim, dtype });

/** Memory for the states of one test, or nothing where they have their own. */
function pagesFor({ pageSize, ...options }: MechanismCase): { pages?: KvPages } {
  if (pageSize === undefined) return {};
  const { length } = complete(options);
  return { pages: new KvPages({ pages: 6 * Math.ceil(length / pageSize), pageSize }) };
}

function draw(options: MechanismCase, seed: number): Heads {
  const { batch, heads, kvHeads, length, dim, valueDim, dtype } = complete(options);
  const generator = new Generator(seed);
  const make = (h: number, d: number) => normal([batch, h, length, d], { generator, dtype });
  return { q: make(heads, dim), k: make(kvHeads, dim), v: make(kvHeads, valueDim) };
}

/** The same heads with the vectors at one position replaced. */
function changed(heads: Heads, position: number): Heads {
  const replace = (t: Tensor): Tensor => {
    const data = values(t);
    const [, , length, dim] = t.shape as [number, number, number, number];
    for (let i = 0; i < data.length; i++) {
      if (Math.floor(i / dim) % length === position) data[i] = (data[i] as number) * -2 + 1;
    }
    return tensor(data, { shape: t.shape, dtype: t.dtype });
  };
  return { q: replace(heads.q), k: replace(heads.k), v: replace(heads.v) };
}

/** Runs forward; mechanisms that draw see the same numbers in every call. */
function run(mechanism: Mechanism, { q, k, v }: Heads): Tensor {
  return noGrad(() =>
    mechanism.forward(q, k, v, mechanism.random ? { generator: new Generator(5) } : {}),
  );
}

/**
 * Holds a mechanism to what it says of its causality: where `causal`, outputs before a changed token
 * stay the same bit for bit; where not, some must change, or the claim is too modest.
 */
export function checkCausality(mechanism: Mechanism, options: MechanismCase = {}): void {
  const { length } = complete(options);
  const heads = draw(options, 11);
  const before = run(mechanism, heads);
  const positions = [0, 1, Math.floor(length / 2), length - 1];
  let leaks = 0;
  for (const position of positions) {
    const after = run(mechanism, changed(heads, position));
    const [a, b] = [before, after].map((y) => values(y.slice(2, 0, position)));
    leaks += (a as Float64Array).reduce((n, x, i) => n + (Object.is(x, b?.[i]) ? 0 : 1), 0);
    const [from, to] = [before, after].map((y) => values(y.slice(2, position, length)));
    expect(from).not.toEqual(to); // the change is seen from its own position on
  }
  if (mechanism.causality === 'causal') expect(leaks).toBe(0);
  else expect(leaks).toBeGreaterThan(0);
}

/**
 * Requires that decoding, with a prompt of several lengths and then token by token, gives the outputs
 * of forward over the whole sequence.
 */
export function checkStep(
  mechanism: Mechanism,
  options: MechanismCase & { absolute?: number } = {},
): void {
  const { batch, heads: h, kvHeads, length, dim, valueDim, dtype } = complete(options);
  const absolute = options.absolute ?? (dtype === 'f64' ? 1e-12 : 2e-6);
  const heads = draw(options, 12);
  const whole = run(mechanism, heads);
  expect(mechanism.decodes).toBe(true);
  noGrad(() => {
    const { pages } = pagesFor(options);
    for (const prompt of [1, 5, length]) {
      const state = mechanism.initState({
        ...{ batch, heads: h, kvHeads, keyDim: dim, valueDim, capacity: length, dtype },
        ...{ device: device('cpu'), pages },
      });
      for (let start = 0; start < length; ) {
        const end = start === 0 ? prompt : start + 1;
        const part = (t: Tensor) => t.slice(2, start, end);
        const y = mechanism.step(part(heads.q), part(heads.k), part(heads.v), state);
        expectClose(y, values(part(whole)), { absolute }, `tokens ${start} to ${end}`);
        start = end;
      }
      expect(state.byteLength).toBeGreaterThan(0);
      state.dispose();
    }
    expect(pages?.freePages).toBe(pages?.pages);
    pages?.dispose();
  });
}

/** Requires that steps which rotate give the bits of steps with rotated queries and keys. */
export function checkTurns(
  mechanism: Mechanism,
  options: MechanismCase = {},
  on: Device = device('cpu'),
): void {
  const { batch, heads: h, kvHeads, length, dim, valueDim, dtype } = complete(options);
  const heads = draw(options, 15);
  const turns = { dim: dim - 2, base: 300, interleaved: true };
  noGrad(() => {
    const sizes = { batch, heads: h, kvHeads, keyDim: dim, valueDim, capacity: length, dtype };
    const shape = { ...sizes, ...pagesFor(options) };
    const [own, given] = [0, 1].map(() => mechanism.initState({ ...shape, device: on })) as [
      MechanismState,
      MechanismState,
    ];
    for (let start = 0; start < length; ) {
      const end = start === 0 ? 4 : start + 1;
      const [q, k, v] = [heads.q, heads.k, heads.v].map((t) =>
        t.slice(2, start, end).to(on),
      ) as Three;
      const [rq, rk] = [q, k].map((t) => rotary(t, { ...turns, offset: start })) as [
        Tensor,
        Tensor,
      ];
      expect(values(mechanism.step(q, k, v, own, turns))).toEqual(
        values(mechanism.step(rq, rk, v, given)),
      );
      start = end;
    }
    own.dispose();
    given.dispose();
  });
}

/** Requires that a reordered state continues the sequences it was told to. */
export function checkReorder(mechanism: Mechanism, options: MechanismCase = {}): void {
  const { heads: h, kvHeads, length, dim, valueDim, dtype } = complete(options);
  const batch = 3;
  const heads = draw({ ...options, batch }, 13);
  const parents = [2, 0, 0];
  const pick = (t: Tensor) => {
    const rows = parents.map((row) => values(t.slice(0, row, row + 1)));
    return tensor(
      rows.flatMap((row) => [...row]),
      { shape: t.shape, dtype: t.dtype },
    );
  };
  noGrad(() => {
    const sizes = { batch, heads: h, kvHeads, keyDim: dim, valueDim, capacity: length, dtype };
    const shape = { ...sizes, ...pagesFor(options) };
    const state = mechanism.initState({ ...shape, device: device('cpu') });
    const other = mechanism.initState({ ...shape, device: device('cpu') });
    const [first, last] = [0, length - 1];
    const prompt = (t: Tensor) => t.slice(2, first, last);
    const final = (t: Tensor) => t.slice(2, last, length);
    mechanism.step(prompt(heads.q), prompt(heads.k), prompt(heads.v), state);
    state.reorder(tensor(parents, { dtype: 'i32' }));
    const y = mechanism.step(final(heads.q), final(heads.k), final(heads.v), state);
    const picked = { q: pick(prompt(heads.q)), k: pick(prompt(heads.k)), v: pick(prompt(heads.v)) };
    mechanism.step(picked.q, picked.k, picked.v, other);
    const expected = mechanism.step(final(heads.q), final(heads.k), final(heads.v), other);
    expect(values(y)).toEqual(values(expected));
    state.reset();
    other.reset();
    const again = mechanism.step(prompt(heads.q), prompt(heads.k), prompt(heads.v), state);
    const fresh = mechanism.step(prompt(heads.q), prompt(heads.k), prompt(heads.v), other);
    expect(values(again)).toEqual(values(fresh));
    state.dispose();
    other.dispose();
  });
}

/**
 * Requires that a step recorded once and replayed for each token gives what steps enqueued one by one
 * give, bit for bit.
 */
export function checkCapture(
  mechanism: Mechanism,
  options: MechanismCase = {},
  on: Device = device('cpu'),
): void {
  const { batch, heads: h, kvHeads, length, dim, valueDim, dtype } = complete(options);
  const drawn = draw(options, 14);
  expect(mechanism.capturable).toBe(true);
  mechanism.to(on);
  noGrad(() => {
    const sizes = { batch, heads: h, kvHeads, keyDim: dim, valueDim, capacity: length, dtype };
    const shape = { ...sizes, ...pagesFor(options) };
    const [eager, recorded] = [0, 1].map(() => mechanism.initState({ ...shape, device: on })) as [
      MechanismState,
      MechanismState,
    ];
    const token = (t: Tensor, i: number) => t.slice(2, i, i + 1).contiguous();
    const input = [drawn.q, drawn.k, drawn.v].map((t) => token(t, 0).to(on)) as Three;
    const step = () => mechanism.step(...input, recorded);
    let graph: Graph<Tensor> | null = null;
    for (let i = 0; i < length; i++) {
      const now = [drawn.q, drawn.k, drawn.v].map((t) => token(t, i)) as Three;
      now.forEach((t, part) => void (input[part] as Tensor).write(t.dataSync()));
      const expected = mechanism.step(...(now.map((t) => t.to(on)) as Three), eager);
      if (i === 0) expect(values(step())).toEqual(values(expected));
      else {
        if (graph) {
          recorded.replaying?.(1);
          graph.replay();
        } else {
          recorded.prepare?.(1);
          graph = on.capture(step);
        }
        expect(values(graph.result)).toEqual(values(expected));
      }
    }
    graph?.dispose();
    eager.dispose();
    recorded.dispose();
  });
}
