/** Philox4x32-10 on BigInt, written from Salmon et al. 2011, section 3.3. */
const mask = 0xffffffffn;

/** Four output words of a 128-bit counter and a 64-bit key, each as 32-bit words, low first. */
export function philox4x32(counter: readonly number[], key: readonly number[]): number[] {
  let [c0, c1, c2, c3] = counter.map(BigInt) as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key.map(BigInt) as [bigint, bigint];
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c0;
    const p1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & mask, (p0 >> 32n) ^ c3 ^ k1, p0 & mask];
    k0 = (k0 + 0x9e3779b9n) & mask;
    k1 = (k1 + 0xbb67ae85n) & mask;
  }
  return [c0, c1, c2, c3].map(Number);
}

/** The first `count` words of a generator with this seed, from block `offset` on. */
export function philoxWords(seed: bigint, offset: bigint, count: number): number[] {
  const halves = (x: bigint) => [Number(x & mask), Number((x >> 32n) & mask)];
  const words: number[] = [];
  for (let block = offset; words.length < count; block++) {
    words.push(...philox4x32([...halves(block), 0, 0], halves(BigInt.asUintN(64, seed))));
  }
  return words.slice(0, count);
}
