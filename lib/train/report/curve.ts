/** Curves as standalone SVG pictures: the loss of a training run, the results of a benchmark. */

import { show } from '../../core/declare.js';
import { ArgumentError } from '../../core/errors.js';
import {
  checkFlags,
  checkList,
  checkNumbers,
  checkOptions,
  checkText,
} from '../../core/options.js';
import { type Axis, axisFor, formatTick } from './ticks.js';

/** One line of a picture. Points that are not finite interrupt it. */
export interface CurveSeries {
  /** Name in the legend. */
  readonly name: string;
  readonly x: ArrayLike<number>;
  readonly y: ArrayLike<number>;
  /** Show the points themselves; by default where there are at most 24. */
  readonly points?: boolean;
  readonly dashed?: boolean;
  /** Draw the points faint and a running mean over them, for noisy measurements. */
  readonly smooth?: boolean;
}

/** A horizontal line to compare with, for example a baseline. */
export interface CurveReference {
  readonly name: string;
  readonly y: number;
}

/** What to draw. */
export interface CurveOptions {
  series: readonly CurveSeries[];
  references?: readonly CurveReference[];
  title?: string;
  /** A second, smaller line below the title. */
  subtitle?: string;
  xLabel?: string;
  yLabel?: string;
  logX?: boolean;
  logY?: boolean;
  /** Pixels; 800 by default. */
  width?: number;
  /** Pixels; 480 by default. */
  height?: number;
}

/** Okabe and Ito's colours, which colour-blind readers can tell apart, darkened for white paper. */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#b8860b', '#56b4e9', '#333333'];
const INK = '#24292f';
const SOFT = '#6e7781';
const GRID = '#e6e9ed';

interface Box {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** Text for XML: markup as references, control characters (which XML cannot hold) as spaces. */
const escapeXml = (text: string): string =>
  Array.from(text, (c) =>
    c < ' ' ? ' ' : '&<>"\''.includes(c) ? `&#${c.charCodeAt(0)};` : c,
  ).join('');

const px = (value: number): string => String(Math.round(value * 10) / 10);

/** Width of a text in the sans-serif fonts that readers have, near enough for layout. */
const textWidth = (text: string, size: number): number => text.length * size * 0.56;

type TextAnchor = 'start' | 'middle' | 'end';

function text(
  x: number,
  y: number,
  content: string,
  size: number,
  more = '',
  anchor: TextAnchor = 'start',
): string {
  return `<text x="${px(x)}" y="${px(y)}" font-size="${size}" text-anchor="${anchor}"${more}>${escapeXml(content)}</text>`;
}

function drawGrid(x: Axis, y: Axis, box: Box): string[] {
  const parts: string[] = [];
  const h = (v: number): string => px(box.bottom - y.at(v) * (box.bottom - box.top));
  const w = (v: number): string => px(box.left + x.at(v) * (box.right - box.left));
  for (const v of y.minor) {
    parts.push(`<path d="M${box.left} ${h(v)}H${box.right}" stroke="${GRID}" stroke-width="0.5"/>`);
  }
  for (const v of x.minor) {
    parts.push(`<path d="M${w(v)} ${box.top}V${box.bottom}" stroke="${GRID}" stroke-width="0.5"/>`);
  }
  for (const v of y.major) {
    parts.push(`<path d="M${box.left} ${h(v)}H${box.right}" stroke="${GRID}"/>`);
    parts.push(text(box.left - 9, Number(h(v)) + 4, formatTick(v), 12, ` fill="${SOFT}"`, 'end'));
  }
  for (const v of x.major) {
    parts.push(`<path d="M${w(v)} ${box.top}V${box.bottom}" stroke="${GRID}"/>`);
    parts.push(`<path d="M${w(v)} ${box.bottom}v5" stroke="${SOFT}"/>`);
    parts.push(text(Number(w(v)), box.bottom + 19, formatTick(v), 12, ` fill="${SOFT}"`, 'middle'));
  }
  parts.push(
    `<path d="M${box.left} ${box.top}V${box.bottom}H${box.right}" fill="none" stroke="${SOFT}"/>`,
  );
  return parts;
}

type Point = readonly [x: number, y: number];

/** Drawable points in runs; a value without a place on the axes ends a run. */
function runsOf(x: ArrayLike<number>, y: ArrayLike<number>, axes: { x: Axis; y: Axis }): Point[][] {
  const runs: Point[][] = [[]];
  for (let i = 0; i < x.length; i++) {
    const good =
      Number.isFinite(x[i]) &&
      Number.isFinite(y[i]) &&
      (!axes.x.log || x[i] > 0) &&
      (!axes.y.log || y[i] > 0);
    if (good) runs[runs.length - 1].push([x[i], y[i]]);
    else if (runs[runs.length - 1].length > 0) runs.push([]);
  }
  return runs.filter((run) => run.length > 0);
}

/** At most `limit` points of a run; of each stretch the lowest and the highest stay. */
function thin(run: readonly Point[], limit: number): readonly Point[] {
  if (run.length <= limit) return run;
  const kept: Point[] = [run[0]];
  const stretches = limit / 2 - 1;
  for (let s = 0; s < stretches; s++) {
    const part = run.slice(
      1 + Math.floor((s * (run.length - 2)) / stretches),
      1 + Math.floor(((s + 1) * (run.length - 2)) / stretches),
    );
    const low = part.reduce((a, b) => (b[1] < a[1] ? b : a));
    const high = part.reduce((a, b) => (b[1] > a[1] ? b : a));
    kept.push(...(low[0] <= high[0] ? [low, high] : [high, low]));
  }
  kept.push(run[run.length - 1]);
  return kept;
}

/** Running mean over about a fortieth of the points, symmetric, so that it does not lag. */
function runningMean(run: readonly Point[]): Point[] {
  const reach = Math.floor(run.length / 80);
  const sums = [0];
  for (const [, y] of run) sums.push(sums[sums.length - 1] + y);
  return run.map(([x], i) => {
    const r = Math.min(reach, i, run.length - 1 - i);
    return [x, (sums[i + r + 1] - sums[i - r]) / (2 * r + 1)];
  });
}

function drawSeries(
  series: CurveSeries,
  colour: string,
  axes: { x: Axis; y: Axis },
  box: Box,
): string[] {
  const parts: string[] = [];
  const place = ([x, y]: Point): string =>
    `${px(box.left + axes.x.at(x) * (box.right - box.left))} ${px(box.bottom - axes.y.at(y) * (box.bottom - box.top))}`;
  const line = (run: readonly Point[], style: string): void => {
    const points = thin(run, 1200);
    const d = points.length === 1 ? `M${place(points[0])}h0.01` : `M${points.map(place).join('L')}`;
    parts.push(
      `<path d="${d}" fill="none" stroke="${colour}" stroke-linejoin="round" stroke-linecap="round" ${style}/>`,
    );
  };
  for (const run of runsOf(series.x, series.y, axes)) {
    const dash = series.dashed ? ' stroke-dasharray="7 5"' : '';
    if (series.smooth && run.length >= 80) {
      line(run, 'stroke-width="1" stroke-opacity="0.3"');
      line(runningMean(run), `stroke-width="2"${dash}`);
    } else line(run, `stroke-width="2"${dash}`);
    if (series.points ?? series.x.length <= 24) {
      for (const point of run) {
        const [cx, cy] = place(point).split(' ');
        parts.push(
          `<circle cx="${cx}" cy="${cy}" r="3.5" fill="${colour}" stroke="#fff" stroke-width="1.2"/>`,
        );
      }
    }
  }
  return parts;
}

interface LegendItem {
  readonly name: string;
  readonly colour: string;
  readonly dashed: boolean;
}

/** Names beside a sample of each line, in rows above the picture; returns the height they take. */
function drawLegend(
  items: readonly LegendItem[],
  left: number,
  right: number,
  top: number,
): { parts: string[]; height: number } {
  const parts: string[] = [];
  let x = left;
  let y = top;
  for (const { name, colour, dashed } of items) {
    const width = 26 + textWidth(name, 13) + 22;
    if (x > left && x + width > right) {
      x = left;
      y += 20;
    }
    const dash = dashed ? ' stroke-dasharray="5 4"' : '';
    parts.push(`<path d="M${px(x)} ${y}h20" stroke="${colour}" stroke-width="2.5"${dash}/>`);
    parts.push(text(x + 26, y + 4.5, name, 13, ` fill="${INK}"`));
    x += width;
  }
  return { parts, height: items.length === 0 ? 0 : y - top + 20 };
}

const optionNames: readonly (keyof CurveOptions)[] = [
  'series',
  'references',
  'title',
  'subtitle',
  'xLabel',
  'yLabel',
  'logX',
  'logY',
  'width',
  'height',
];

function check(options: CurveOptions): void {
  checkOptions('renderCurveSvg', options, optionNames);
  const { series, references = [], logX, logY, title, subtitle, xLabel, yLabel } = options;
  checkFlags('renderCurveSvg', { logX, logY });
  for (const [argument, value] of Object.entries({ title, subtitle, xLabel, yLabel })) {
    if (value !== undefined) checkText('renderCurveSvg', argument, value);
  }
  checkList('renderCurveSvg', 'series', series, '{ name, x, y }');
  checkList('renderCurveSvg', 'references', references, '{ name, y }');
  for (const reference of references) {
    checkOptions('renderCurveSvg', reference, ['name', 'y']);
    checkText('renderCurveSvg', 'references.name', reference.name);
    checkNumbers('renderCurveSvg', { 'references.y': reference.y ?? Number.NaN });
  }
  for (const one of series) {
    checkOptions('renderCurveSvg', one, ['name', 'x', 'y', 'points', 'dashed', 'smooth']);
    const { name, x, y, points, dashed, smooth } = one;
    checkText('renderCurveSvg', 'series.name', name);
    checkFlags('renderCurveSvg', { points, dashed, smooth });
    for (const [argument, values] of Object.entries({ 'series.x': x, 'series.y': y })) {
      if (!ArrayBuffer.isView(values)) checkList('renderCurveSvg', argument, values, 'numbers');
    }
    if (x.length === y.length) continue;
    throw new ArgumentError(
      'ERR_SHAPE',
      'renderCurveSvg',
      'series',
      `'${name}' with ${x.length} x and ${y.length} y values`,
      'Give as many x as y values',
    );
  }
  for (const [argument, value] of Object.entries({
    width: options.width === undefined ? 800 : options.width,
    height: options.height === undefined ? 480 : options.height,
  })) {
    if (typeof value === 'number' && value >= 200 && value <= 10000) continue;
    const remedy = 'Give 200 to 10000 pixels';
    throw new ArgumentError('ERR_OPTION', 'renderCurveSvg', argument, show(value), remedy);
  }
}

/**
 * Draws curves as a standalone SVG picture with axes, grid and legend, on white.
 *
 * @returns the text of an SVG file; it refers to nothing outside itself
 * @throws {ArgumentError} for what is no series, when a series has unequal numbers of x and y, or a size is out of range.
 * @example
 * const svg = renderCurveSvg({
 *   series: [{ name: 'training loss', x: [1, 2, 3, 4], y: [5.5, 3.1, 2.6, 2.4], smooth: true }],
 *   title: 'Training',
 *   xLabel: 'step',
 *   yLabel: 'bits per byte',
 * });
 * await writeFileAtomic('loss.svg', svg);
 */
export function renderCurveSvg(options: CurveOptions): string {
  check(options);
  const { series, references = [], title, subtitle, xLabel, yLabel } = options;
  const { logX = false, logY = false, width = 800, height = 480 } = options;
  const xs = series.flatMap(({ x }) => Array.from(x));
  const ys = [...series.flatMap(({ y }) => Array.from(y)), ...references.map(({ y }) => y)];
  const axes = {
    x: axisFor(xs, logX, Math.round(width / 110)),
    y: axisFor(ys, logY, Math.round(height / 70)),
  };
  const colour = (i: number): string => COLOURS[i % COLOURS.length];
  const items: LegendItem[] = [
    ...series.map(({ name, dashed }, i) => ({ name, colour: colour(i), dashed: dashed ?? false })),
    ...references.map(({ name }, i) => ({
      name,
      colour: colour(series.length + i),
      dashed: true,
    })),
  ];
  const tickWidth = Math.max(...axes.y.major.map((v) => textWidth(formatTick(v), 12)), 12);
  const left = 22 + (yLabel ? 20 : 0) + tickWidth;
  const right = width - 26;
  let top = 20;
  const head: string[] = [];
  if (title) {
    head.push(text(left, top + 12, title, 17, ` font-weight="600" fill="${INK}"`));
    top += 26;
  }
  if (subtitle) {
    head.push(text(left, top + 9, subtitle, 13, ` fill="${SOFT}"`));
    top += 22;
  }
  const legend = drawLegend(items, left, right, top + 8);
  const box: Box = {
    left: Math.round(left) + 0.5,
    top: Math.round(top + legend.height + 8) + 0.5,
    right: right + 0.5,
    bottom: height - 32 - (xLabel ? 24 : 0) + 0.5,
  };
  const labels: string[] = [];
  if (xLabel) {
    labels.push(
      text((box.left + box.right) / 2, height - 14, xLabel, 13, ` fill="${INK}"`, 'middle'),
    );
  }
  if (yLabel) {
    const y = (box.top + box.bottom) / 2;
    labels.push(
      text(20, y, yLabel, 13, ` fill="${INK}" transform="rotate(-90 20 ${px(y)})"`, 'middle'),
    );
  }
  const lines = references.map(({ y }, i) => {
    const at = px(box.bottom - axes.y.at(y) * (box.bottom - box.top));
    return `<path d="M${box.left} ${at}H${box.right}" stroke="${colour(series.length + i)}" stroke-width="1.5" stroke-dasharray="6 5"/>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif" role="img">`,
    `<title>${escapeXml(title ?? 'curves')}</title>`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    ...head,
    ...legend.parts,
    ...drawGrid(axes.x, axes.y, box),
    ...lines,
    ...series.flatMap((one, i) => drawSeries(one, colour(i), axes, box)),
    ...labels,
    '</svg>\n',
  ].join('\n');
}
