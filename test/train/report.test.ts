import { renderCurveSvg } from 'longspan';
import { axisFor, formatTick } from '#lib/train/report/ticks';

describe('axisFor', () => {
  test('linear axes cover the values with whole steps of 1, 2 or 5', () => {
    expect(axisFor([0.13, 0.87], false, 5).major).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
    expect(axisFor([-3, 12], false, 4).major).toEqual([-5, 0, 5, 10, 15]);
    const { low, high } = axisFor([7, 7], false, 5);
    expect(low).toBeLessThan(7);
    expect(high).toBeGreaterThan(7);
  });

  test('logarithmic axes mark decades, or the powers of two they are given', () => {
    expect(axisFor([1, 1e5], true, 5).major).toEqual([1, 10, 100, 1000, 1e4, 1e5]);
    expect(axisFor([512, 2048, 1024, 2048], true, 5).major).toEqual([512, 1024, 2048]);
    expect(axisFor([3, 3.1], true, 5).major.length).toBeGreaterThanOrEqual(2);
    const axis = axisFor([1, 100], true, 5);
    expect(axis.at(10)).toBeCloseTo(0.5, 12);
  });

  test('without usable values there is still an axis', () => {
    expect(axisFor([Number.NaN], false, 5).major.length).toBeGreaterThan(1);
    expect(axisFor([-1, 0], true, 5).major.length).toBeGreaterThan(1);
  });
});

test.each([
  [0, '0'],
  [0.25, '0.25'],
  [-1.5, '\u22121.5'],
  [16384, '16384'],
  [2.5e6, '2.5M'],
  [3e9, '3G'],
  [3e-4, '3e\u22124'],
])('formatTick(%p)', (value, text) => {
  expect(formatTick(value)).toBe(text);
});

describe('renderCurveSvg', () => {
  const x = Array.from({ length: 500 }, (_, i) => i);
  const y = x.map((i) => 2 + 5 * Math.exp(-i / 50));

  test('is one complete picture with all its names, escaped', () => {
    const svg = renderCurveSvg({
      series: [{ name: 'a < b & "c"', x, y, smooth: true }],
      references: [{ name: 'baseline', y: 2.5 }],
      title: 'Loss',
      xLabel: 'step',
      yLabel: 'bits per byte',
    });
    expect(svg).toMatch(/^<svg xmlns="http:\/\/www.w3.org\/2000\/svg" width="800"/);
    expect(svg.trim()).toMatch(/<\/svg>$/);
    for (const name of [
      'a &#60; b &#38; &#34;c&#34;',
      'baseline',
      'Loss',
      'step',
      'bits per byte',
    ]) {
      expect(svg).toContain(`>${name}</t`);
    }
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  });

  test('values that are not finite interrupt the line, non-positive ones on log axes too', () => {
    const series = [{ name: 's', x: [0, 1, 2, 3, 4, 5], y: [1, 2, Number.NaN, 4, -5, 6] }];
    const paths = (svg: string) => svg.match(/stroke="#0072b2" stroke-linejoin/g)?.length;
    expect(paths(renderCurveSvg({ series }))).toBe(2);
    const log = renderCurveSvg({ series, logX: true, logY: true });
    expect(paths(log)).toBe(3);
    expect(log).not.toMatch(/NaN|Infinity/);
  });

  test('a long run stays a small file and keeps its extremes', () => {
    const long = new Float64Array(200_000).map((_, i) => Math.sin(i / 1000));
    long[123_456] = 9;
    const steps = long.map((_, i) => i);
    const svg = renderCurveSvg({ series: [{ name: 'long', x: steps, y: long }] });
    expect(svg.length).toBeLessThan(40_000);
    expect(axisFor([...long], false, 5).high).toBeGreaterThanOrEqual(9);
  });

  test('nothing to draw is an empty picture; unequal lengths and bad sizes are errors', () => {
    expect(renderCurveSvg({ series: [] })).toContain('</svg>');
    expect(() => renderCurveSvg({ series: [{ name: 'u', x: [1], y: [] }] })).toThrow(
      /'u' with 1 x/,
    );
    expect(() => renderCurveSvg({ series: [], width: Number.NaN })).toThrow(/'width' is NaN/);
  });
});
