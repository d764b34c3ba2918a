import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16, float16View, hasFloat16Array } from 'longspan';

const all = Uint16Array.from({ length: 65536 }, (_, i) => i);

/** The value of binary16 bits by the definition of the format. */
function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0
    ? sign * mantissa * 2 ** -24
    : sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

/** Next float32 above (or below) a finite value. */
function nudge(x: number, by: number): number {
  const f = new Float32Array([x]);
  new Int32Array(f.buffer)[0] += by;
  return f[0];
}

describe('f16', () => {
  test('every one of the 65536 values widens as the format defines', () => {
    const values = f16ToF32(all);
    const wrong = [...all].filter((h) => !Object.is(values[h], halfValue(h)));
    expect(wrong).toEqual([]);
  });

  test('every value survives the round trip; NaNs keep sign and payload and become quiet', () => {
    const back = f32ToF16(f16ToF32(all));
    const expected = all.map((h) => ((h & 0x7fff) > 0x7c00 ? h | 0x200 : h));
    expect(Buffer.compare(Buffer.from(back.buffer), Buffer.from(expected.buffer))).toBe(0);
  });

  test('rounds to nearest, ties to even, at every boundary between two finite values', () => {
    const wrong: number[] = [];
    for (let h = 0; h < 0x7bff; h++) {
      const middle = (halfValue(h) + halfValue(h + 1)) / 2; // exact in float32
      const [tie, below, above] = f32ToF16(
        new Float32Array([middle, nudge(middle, -1), nudge(middle, 1)]),
      );
      if (tie !== (h & 1 ? h + 1 : h) || below !== h || above !== h + 1) wrong.push(h);
      const [negative] = f32ToF16(new Float32Array([-middle]));
      if (negative !== (tie | 0x8000)) wrong.push(-h);
    }
    expect(wrong).toEqual([]);
  });

  test('overflow becomes infinity from 65520 on, tiny values become signed zero', () => {
    const bits = f32ToF16(new Float32Array([65519.996, 65520, 1e9, -1e9, 2 ** -25, -1e-30, -0]));
    expect([...bits]).toEqual([0x7bff, 0x7c00, 0x7c00, 0xfc00, 0, 0x8000, 0x8000]);
  });

  test('writes into a given array and refuses one of another length', () => {
    const out = new Uint16Array(8).subarray(3, 5);
    expect(f32ToF16(new Float32Array([1, 2]), out)).toBe(out);
    expect([...out]).toEqual([0x3c00, 0x4000]);
    expect(() => f16ToF32(new Uint16Array(2), new Float32Array(3))).toThrow(
      /'out' is an array of 3/,
    );
  });

  test('float16View shows the same bytes where the runtime can', () => {
    const view = float16View(f32ToF16(new Float32Array([1.5])));
    expect(view?.[0]).toBe(hasFloat16Array ? 1.5 : undefined);
  });
});

describe('bf16', () => {
  test('every value survives the round trip; NaNs become quiet', () => {
    const back = f32ToBf16(bf16ToF32(all));
    const expected = all.map((b) => ((b & 0x7fff) > 0x7f80 ? b | 0x40 : b));
    expect(Buffer.compare(Buffer.from(back.buffer), Buffer.from(expected.buffer))).toBe(0);
  });

  test('rounds to nearest, ties to even; a NaN with a low payload stays a NaN', () => {
    const words = new Uint32Array([
      0x3f808000, 0x3f818000, 0x3f808001, 0x7f7fffff, 0x7f800001, 0xffffffff,
    ]);
    const bits = f32ToBf16(new Float32Array(words.buffer));
    expect([...bits]).toEqual([0x3f80, 0x3f82, 0x3f81, 0x7f80, 0x7fc0, 0xffff]);
  });
});
