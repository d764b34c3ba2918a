import { type LongspanError, parseHeader } from 'longspan';

const parse = (text: string, dataLength: number) =>
  parseHeader(new TextEncoder().encode(text), dataLength);

const tensor = (begin: number, end: number, extra = '"dtype":"F32","shape":[2]') =>
  `{${extra},"data_offsets":[${begin},${end}]}`;

function refusal(text: string, dataLength: number): LongspanError {
  try {
    parse(text, dataLength);
  } catch (error) {
    return error as LongspanError;
  }
  throw new Error('the header was accepted');
}

describe('parseHeader', () => {
  test('reads metadata, dtypes, shapes and places; scalars, empty tensors and spaces included', () => {
    const text = ` {"__metadata__":{"a":"b\\n\\u00fc"},"x":${tensor(0, 8)},
      "s":${tensor(8, 10, '"dtype":"BF16","shape":[]')},"e":${tensor(10, 10, '"dtype":"I64","shape":[0,7]')},
      "f":${tensor(10, 13, '"dtype":"F6_E2M3","shape":[4]')}}  `;
    const { metadata, tensors } = parse(text, 13);
    const start = 8 + new TextEncoder().encode(text).length;
    expect([...metadata]).toEqual([['a', 'b\nü']]);
    expect([...tensors.keys()]).toEqual(['x', 's', 'e', 'f']);
    expect(tensors.get('s')).toEqual({
      dtype: 'BF16',
      shape: [],
      byteOffset: start + 8,
      byteLength: 2,
    });
    expect(parse('{}', 0).tensors.size).toBe(0);
  });

  const hostile: [string, string, number, RegExp][] = [
    ['text that is not JSON', '{"x":', 0, /not JSON: unexpected the end/],
    ['text after the object', '{} {}', 0, /not JSON: unexpected "\{"/],
    ['a byte order mark', '\ufeff{}', 0, /not JSON/],
    ['a trailing comma', `{"x":${tensor(0, 8)},}`, 8, /not JSON/],
    ['a string without end', '{"x\\', 0, /no end/],
    ['a control character in a name', '{"\n":1}', 0, /bad string/],
    ['deep nesting', `{"x":${'['.repeat(100000)}`, 0, /nesting deeper than 16/],
    ['a list', '[]', 0, /not a JSON object/],
    ['a duplicate tensor', `{"x":${tensor(0, 8)},"x":${tensor(0, 8)}}`, 8, /duplicate name "x"/],
    [
      'a duplicate by escape',
      `{"x":${tensor(0, 8)},"\\u0078":${tensor(0, 8)}}`,
      8,
      /duplicate name/,
    ],
    ['a duplicate field', `{"x":{"dtype":"F32","dtype":"I32"}}`, 8, /duplicate name "dtype"/],
    [
      'overlapping tensors',
      `{"x":${tensor(0, 8)},"y":${tensor(4, 12)}}`,
      12,
      /"x" and "y" overlap/,
    ],
    ['the same bytes twice', `{"x":${tensor(0, 8)},"y":${tensor(0, 8)}}`, 8, /overlap/],
    ['a hole', `{"x":${tensor(0, 8)},"y":${tensor(12, 20)}}`, 20, /hole of 4 bytes/],
    ['bytes at the beginning that nobody claims', `{"x":${tensor(8, 16)}}`, 16, /hole of 8 bytes/],
    ['bytes at the end that nobody claims', `{"x":${tensor(0, 8)}}`, 9, /1 bytes after "x"/],
    ['data without tensors', '{}', 3, /3 bytes after the beginning/],
    ['offsets out of range', `{"x":${tensor(0, 8)}}`, 7, /out of range, the data has 7/],
    ['offsets in reverse', `{"x":${tensor(8, 0)}}`, 8, /out of range/],
    ['a negative offset', `{"x":${tensor(-8, 0)}}`, 8, /non-negative integers/],
    [
      'an offset beyond 2^53',
      `{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,1e300]}}`,
      8,
      /non-negative integers/,
    ],
    ['one offset', `{"x":{"dtype":"F32","shape":[2],"data_offsets":[0]}}`, 8, /must be two/],
    ['a negative size', `{"x":${tensor(0, 8, '"dtype":"F32","shape":[-2]')}}`, 8, /non-negative/],
    [
      'a fractional size',
      `{"x":${tensor(0, 8, '"dtype":"F32","shape":[2.5]')}}`,
      8,
      /non-negative integers/,
    ],
    [
      'a shape of text',
      `{"x":${tensor(0, 8, '"dtype":"F32","shape":["2"]')}}`,
      8,
      /non-negative integers/,
    ],
    ['no shape', `{"x":${tensor(0, 8, '"dtype":"F32"')}}`, 8, /shape missing/],
    [
      'a shape for other bytes',
      `{"x":${tensor(0, 8, '"dtype":"F32","shape":[3]')}}`,
      8,
      /has 8 bytes, but F32 \[3\] takes 12/,
    ],
    [
      'a product that overflows',
      `{"x":${tensor(0, 8, '"dtype":"U8","shape":[4294967296,4294967296]')}}`,
      8,
      /no whole number of bytes/,
    ],
    [
      'packed values that fill no byte',
      `{"x":${tensor(0, 1, '"dtype":"F4","shape":[1]')}}`,
      1,
      /no whole number/,
    ],
    [
      'an unknown dtype',
      `{"x":${tensor(0, 8, '"dtype":"F99","shape":[2]')}}`,
      8,
      /unknown dtype "F99"/,
    ],
    [
      'a dtype of the prototype',
      `{"x":${tensor(0, 8, '"dtype":"toString","shape":[2]')}}`,
      8,
      /unknown dtype/,
    ],
    ['no dtype', `{"x":${tensor(0, 8, '"shape":[2]')}}`, 8, /unknown dtype missing/],
    [
      'a tensor named __proto__',
      `{"__proto__":${tensor(0, 8)}}`,
      8,
      /forbidden tensor name "__proto__"/,
    ],
    ['an escaped __proto__', `{"\\u005f_proto__":${tensor(0, 8)}}`, 8, /forbidden tensor name/],
    [
      '__proto__ in the metadata',
      '{"__metadata__":{"__proto__":"x"}}',
      0,
      /forbidden metadata key/,
    ],
    [
      'a field named __proto__',
      `{"x":${tensor(0, 8, '"dtype":"F32","shape":[2],"__proto__":{}')}}`,
      8,
      /unknown field/,
    ],
    ['metadata that is not text', '{"__metadata__":{"a":1}}', 0, /metadata "a" is not a string/],
    ['metadata that is no object', '{"__metadata__":"a"}', 0, /not an object of strings/],
    ['a tensor that is no object', '{"x":5}', 0, /is not an object/],
  ];

  test.each(hostile)('refuses %s', (_, text, dataLength, message) => {
    const error = refusal(text, dataLength);
    expect(error.code).toBe('ERR_FORMAT');
    expect(error.message).toMatch(message);
    expect(error.remedy).toBeTruthy();
  });

  test('refuses bytes that are not UTF-8', () => {
    expect(() => parseHeader(new Uint8Array([0x7b, 0xff, 0x7d]), 0)).toThrow(/not UTF-8/);
  });

  test('accepts nothing but its own text under thousands of random changes of one byte', () => {
    const good = new TextEncoder().encode(`{"x":${tensor(0, 8)},"y":${tensor(8, 16)}}`);
    let state = 1;
    const next = (n: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state % n;
    };
    for (let i = 0; i < 5000; i++) {
      const bytes = good.slice();
      bytes[next(bytes.length)] = next(128);
      try {
        for (const { byteOffset, byteLength } of parseHeader(bytes, 16).tensors.values()) {
          expect(byteOffset + byteLength).toBeLessThanOrEqual(8 + bytes.length + 16);
        }
      } catch (error) {
        expect((error as LongspanError).code).toBe('ERR_FORMAT');
      }
    }
  });
});
