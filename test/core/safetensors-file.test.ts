import * as fs from 'node:fs';
import {
  readSafetensorsFile,
  readSafetensorsFileSync,
  type SafetensorsEntry,
  SafetensorsWriter,
  safetensorsDtypes,
  writeSafetensorsFile,
  writeSafetensorsFileSync,
} from 'longspan';
import { loadGolden } from '../goldens.js';
import { temporaryDirectory } from '../temporary.js';

function lcg(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

/** A file of random tensors, a multiple of eight values each so that packed types fill bytes. */
function randomEntries(seed: number): (SafetensorsEntry & { data: Uint8Array })[] {
  const next = lcg(seed);
  const bits: Record<string, number> = {
    F4: 4,
    F6_E2M3: 6,
    F6_E3M2: 6,
    C64: 64,
    BF16: 16,
    BOOL: 8,
  };
  return Array.from({ length: next(12) }, (_, i) => {
    const dtype = safetensorsDtypes[next(safetensorsDtypes.length)];
    const shape = [8, ...Array.from({ length: next(4) }, () => next(5))];
    const width = bits[dtype] ?? Number(/^\D(\d+)/.exec(dtype)?.[1]);
    const bytes = (shape.reduce((a, b) => a * b, 1) * width) / 8;
    const data = Uint8Array.from({ length: bytes }, () => next(256));
    return { name: `layer.${i}."ü\\`, dtype, shape, data };
  });
}

describe('safetensors files', () => {
  const at = temporaryDirectory();

  test('round trips of random files, lazy and eager, blocking and not', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const entries = randomEntries(seed);
      const metadata = { format: 'pt', seed: String(seed) };
      const path = at(`random${seed % 3}`);
      if (seed % 2) {
        const lazy = entries.map((e) => ({ ...e, data: async () => e.data }));
        await writeSafetensorsFile(path, seed % 4 === 1 ? lazy : entries, { metadata });
      } else {
        writeSafetensorsFileSync(path, entries, { metadata: new Map(Object.entries(metadata)) });
      }
      await using file = await readSafetensorsFile(path);
      expect(Object.fromEntries(file.metadata)).toEqual(metadata);
      expect([...file.tensors.keys()].sort()).toEqual(entries.map((e) => e.name).sort());
      for (const { name, dtype, shape, data } of entries) {
        expect(file.tensors.get(name)).toMatchObject({ dtype, shape });
        expect(Buffer.compare(await file.read(name), data)).toBe(0);
        expect(Buffer.compare(file.readSync(name), data)).toBe(0);
        const half = new Uint8Array(data.length >> 1);
        await file.readInto(name, half, data.length - half.length);
        expect(Buffer.compare(half, data.subarray(data.length - half.length))).toBe(0);
      }
    }
  });

  test('tensors lie aligned to their element size whatever their order', async () => {
    const path = at('aligned');
    await writeSafetensorsFile(path, [
      { name: 'a', dtype: 'U8', shape: [3], data: new Uint8Array(3) },
      { name: 'b', dtype: 'F64', shape: [1], data: new Float64Array([7]) },
      { name: 'c', dtype: 'F16', shape: [1], data: new Uint16Array(1) },
    ]);
    using file = readSafetensorsFileSync(path);
    expect((file.tensors.get('b')?.byteOffset ?? 1) % 8).toBe(0);
    expect((file.tensors.get('c')?.byteOffset ?? 1) % 2).toBe(0);
    expect(new Float64Array((await file.read('b')).buffer)[0]).toBe(7);
  });

  test('reads tensors beyond 2 GiB and 4 GiB of a sparse file', async () => {
    const path = at('large');
    const size = 5 * 2 ** 30;
    const json = Buffer.from(
      `{"a":{"dtype":"U8","shape":[${size}],"data_offsets":[0,${size}]},"b":{"dtype":"F32","shape":[2],"data_offsets":[${size},${size + 8}]}}`,
    );
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(json.length));
    fs.writeFileSync(path, Buffer.concat([prefix, json]));
    fs.truncateSync(path, 8 + json.length + size);
    fs.appendFileSync(path, new Uint8Array(new Float32Array([1.5, -2]).buffer));
    await using file = await readSafetensorsFile(path);
    expect([...new Float32Array((await file.read('b')).buffer)]).toEqual([1.5, -2]);
    const piece = new Uint8Array(4).fill(9);
    file.readIntoSync('a', piece, size - 4);
    expect([...piece]).toEqual([0, 0, 0, 0]);
  });

  test('reads the files of another implementation', () => {
    const golden = loadGolden('positions_noam_d32');
    expect(golden.tensor('out.pe').shape).toEqual([100, 32]);
    expect(golden.tensor('out.pe').data[1]).toBe(1);
  });

  const damaged: [string, () => Buffer, RegExp][] = [
    ['an empty file', () => Buffer.alloc(0), /truncated: 0 bytes/],
    ['a file of 5 bytes', () => Buffer.alloc(5), /truncated: 5 bytes/],
    [
      'a header longer than the file',
      () => Buffer.from('\x20\0\0\0\0\0\0\0{}', 'latin1'),
      /claims 32 bytes, the file has 2/,
    ],
    [
      'a header above the limit',
      () => Buffer.from('\0\xe2\xf5\x05\0\0\0\0{}', 'latin1').fill(0xff, 0, 4),
      /more than the limit of 100000000/,
    ],
    ['a header of 2^64 - 1 bytes', () => Buffer.alloc(64, 0xff), /more than the limit/],
    ['no header', () => Buffer.alloc(8), /not JSON/],
    ['data cut off', () => fs.readFileSync(at('aligned')).subarray(0, -1), /out of range/],
    [
      'data added',
      () => Buffer.concat([fs.readFileSync(at('aligned')), Buffer.alloc(1)]),
      /belong to no tensor/,
    ],
  ];

  test.each(damaged)('refuses %s', async (_, bytes, message) => {
    fs.writeFileSync(at('damaged'), bytes());
    await expect(readSafetensorsFile(at('damaged'))).rejects.toMatchObject({ code: 'ERR_FORMAT' });
    expect(() => readSafetensorsFileSync(at('damaged'))).toThrow(message);
  });

  test('a missing file, a directory and a path that is no path are typed errors', async () => {
    await expect(readSafetensorsFile(at('nowhere'))).rejects.toMatchObject({
      code: 'ERR_FILE',
      message: expect.stringContaining('does not exist'),
    });
    await expect(readSafetensorsFile(at())).rejects.toMatchObject({ code: 'ERR_FILE' });
    await expect(readSafetensorsFile(Number.NaN as unknown as string)).rejects.toMatchObject({
      code: 'ERR_VALUE',
      value: 'NaN',
    });
  });

  test('a file that shrinks while open is a FormatError, not stale bytes', async () => {
    fs.copyFileSync(at('aligned'), at('shrinks'));
    await using file = await readSafetensorsFile(at('shrinks'));
    fs.truncateSync(at('shrinks'), 20);
    await expect(file.read('b')).rejects.toMatchObject({ code: 'ERR_FORMAT' });
  });

  test('misuse of an open file names argument and remedy', async () => {
    const file = await readSafetensorsFile(at('aligned'));
    await expect(file.read('z')).rejects.toThrow(/'name' is 'z'.*holds b, c, a/);
    await expect(file.readInto('a', new Uint8Array(2), 2)).rejects.toThrow(/'start' is 2/);
    const reading = file.read('b');
    expect(() => file.closeSync()).toThrow(/reads under way/);
    await Promise.all([file.close(), reading]);
    await file.close();
    await expect(file.read('b')).rejects.toThrow(/closed file/);
  });
});

describe('SafetensorsWriter', () => {
  const at = temporaryDirectory();
  const spec = { name: 'w', dtype: 'F32', shape: [2] } as const;

  test('takes pieces in any order; the file appears at commit only', async () => {
    await using writer = new SafetensorsWriter(at('w'), [spec]);
    await writer.write('w', new Float32Array([2]), 4);
    expect(fs.existsSync(at('w'))).toBe(false);
    await expect(writer.commit()).rejects.toThrow(/4 bytes short for "w"/);
    writer.writeSync('w', new Float32Array([1]));
    await writer.commit();
    using file = readSafetensorsFileSync(at('w'));
    expect([...new Float32Array(file.readSync('w').buffer)]).toEqual([1, 2]);
  });

  test('a failure in the middle keeps the old file and leaves no temporary one', async () => {
    const before = fs.readFileSync(at('w'));
    const fail = () => Promise.reject(new Error('no bytes today'));
    await expect(writeSafetensorsFile(at('w'), [{ ...spec, data: fail }])).rejects.toThrow(
      'no bytes today',
    );
    const signal = AbortSignal.abort();
    await expect(
      writeSafetensorsFile(at('w'), [{ ...spec, data: new Float32Array(2) }], { signal }),
    ).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(fs.readFileSync(at('w')).equals(before)).toBe(true);
    expect(fs.readdirSync(at())).toEqual(['w']);
  });

  const data = new Float32Array(2);
  const wrong: [string, SafetensorsEntry[], RegExp][] = [
    ['a reserved name', [{ ...spec, name: '__metadata__', data }], /'name' is '__metadata__'/],
    ['a prototype name', [{ ...spec, name: '__proto__', data }], /'name' is '__proto__'/],
    [
      'a name given twice',
      [
        { ...spec, data },
        { ...spec, data },
      ],
      /given twice/,
    ],
    ['an unknown dtype', [{ ...spec, dtype: 'f32' as 'F32', data }], /'dtype' is 'f32'/],
    ['a negative size', [{ ...spec, shape: [-1], data }], /'shape' is \[-1\]/],
    ['too few bytes', [{ ...spec, data: new Float32Array(1) }], /'data' is 4 bytes for "w"/],
    ['too many bytes', [{ ...spec, data: new Float32Array(3) }], /'data' is 12 bytes/],
    [
      'data that is no array',
      [{ ...spec, data: [1, 2] as unknown as Uint8Array }],
      /'data' is object/,
    ],
  ];

  test.each(wrong)('refuses %s', async (_, entries, message) => {
    await expect(writeSafetensorsFile(at('x'), entries)).rejects.toThrow(message);
    expect(() => writeSafetensorsFileSync(at('x'), entries as never)).toThrow(message);
    expect(fs.readdirSync(at())).toEqual(['w']);
  });

  test('refuses metadata that is not text, and a directory that is missing', async () => {
    const metadata = { step: 1 } as unknown as Record<string, string>;
    await expect(writeSafetensorsFile(at('x'), [], { metadata })).rejects.toThrow(/'metadata' is/);
    await expect(writeSafetensorsFile(at('no/x'), [])).rejects.toMatchObject({ code: 'ERR_FILE' });
  });
});
