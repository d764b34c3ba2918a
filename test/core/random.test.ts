import { hashText, Random } from 'longspan';

describe('Random', () => {
  test('is xoshiro128**: the first numbers of the reference code for the state 1, 2, 3, 4', () => {
    const random = Random.from({ algorithm: 'xoshiro128**', words: [1, 2, 3, 4] });
    const numbers = Array.from({ length: 4 }, () => random.uint32());
    expect(numbers).toEqual([11520, 0, 5927040, 70819200]);
  });

  test('one seed, one sequence; other seeds, other sequences, beyond 32 bits too', () => {
    const draw = (seed: number) => Array.from({ length: 3 }, () => new Random(seed).uint32())[0];
    expect(draw(5)).toBe(draw(5));
    expect(new Set([0, 1, 2, 2 ** 32, 2 ** 32 + 1, 2 ** 52].map(draw)).size).toBe(6);
  });

  test('state goes through JSON and continues exactly', () => {
    const random = new Random(9);
    for (let i = 0; i < 100; i++) random.uint32();
    const copy = Random.from(JSON.parse(JSON.stringify(random.state())));
    for (let i = 0; i < 100; i++) expect(copy.uint32()).toBe(random.uint32());
  });

  test('below and uniform are even and stay in range', () => {
    const random = new Random(3);
    const seen = new Array<number>(7).fill(0);
    for (let i = 0; i < 70_000; i++) seen[random.below(7)]++;
    for (const n of seen) expect(Math.abs(n - 10_000)).toBeLessThan(400);
    let sum = 0;
    for (let i = 0; i < 10_000; i++) sum += random.uniform();
    expect(Math.abs(sum / 10_000 - 0.5)).toBeLessThan(0.02);
    for (let i = 0; i < 100; i++) expect(random.below(2 ** 40)).toBeLessThan(2 ** 40);
    expect([...random.shuffle([1, 2, 3, 4])].sort()).toEqual([1, 2, 3, 4]);
  });

  test.each([Number.NaN, -1, 0.5, 2 ** 53])('refuses the seed %p', (seed) => {
    expect(() => new Random(seed)).toThrow(/'seed' is/);
  });

  test('refuses a state that is none', () => {
    const zero = { algorithm: 'xoshiro128**', words: [0, 0, 0, 0] } as const;
    expect(() => Random.from(zero)).toThrow(/not valid/);
    expect(() => Random.from(null as never)).toThrow(/not valid/);
    expect(() => new Random(1).below(0)).toThrow(/'n' is 0/);
  });

  test('hashText is stable and spreads', () => {
    expect(hashText('a', 0)).toBe(hashText('a', 0));
    const all = new Set(Array.from({ length: 1000 }, (_, i) => hashText(`file${i}.ts`, 1) % 4096));
    expect(all.size).toBeGreaterThan(850); // 884 expected of even hashes
  });
});
