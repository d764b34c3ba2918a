import { Generator, type SamplingOptions, tensor } from 'longspan';
import { sampleLast, samplingOptions } from '#lib/train/sampling';

test('left out, everything may be drawn', () => {
  expect(samplingOptions({})).toEqual({ temperature: 1, topK: 0, topP: 1 });
});

test.each<[SamplingOptions, number[]]>([
  [{ temperature: 0 }, [1]],
  [{ topK: 1 }, [1]],
  [{ topK: 2 }, [1, 3]],
  [{ topK: 50 }, [0, 1, 2, 3, 4]],
  // Softmax is 0.032, 0.636, 0.086, 0.234, 0.012.
  [{ topP: 0.9 }, [1, 2, 3]],
  [{ topK: 3, topP: 0.8 }, [1, 3]],
])('%p of the last position', (options, kept) => {
  const generator = new Generator(5);
  const logits = tensor([
    [
      [9, 0, 0, 0, 0],
      [0, 3, 1, 2, -1],
    ],
  ]);
  const seen = new Set<number>();
  for (let i = 0; i < 600; i++) {
    const ids = sampleLast(logits, generator, samplingOptions(options));
    expect(ids.shape).toEqual([1]);
    seen.add(ids.itemSync());
    ids.dispose();
  }
  expect([...seen].sort()).toEqual(kept);
});

test.each([
  [{ temperature: -1 }, 'temperature'],
  [{ temperature: Number.NaN }, 'temperature'],
  [{ topK: 0 }, 'topK'],
  [{ topK: 1.5 }, 'topK'],
  [{ topP: 0 }, 'topP'],
  [{ topP: 1.1 }, 'topP'],
])('refuses %p', (options, argument) => {
  expect(() => samplingOptions(options)).toThrow(
    expect.objectContaining({ code: 'ERR_OPTION', argument }),
  );
});
