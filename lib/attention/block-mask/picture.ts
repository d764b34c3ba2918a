/** Block masks as pictures. */
import { type Blocks, columnsOf, hidden, partial, rowsOf } from './blocks.js';

/** One head of a mask: a square per visible block, paler where the block is partial. */
export function maskSvg(m: Blocks, batch: number, head: number, size: number): string {
  const [rows, columns] = [rowsOf(m), columnsOf(m)];
  const scale = size / Math.max(rows, columns);
  const at = (x: number) => Number((x * scale).toFixed(2));
  const [width, height] = [at(columns), at(rows)];
  const squares: string[] = [];
  const first = (batch * m.heads + head) * rows * columns;
  for (let row = 0; row < rows; row++) {
    // Neighbours of one state are one rectangle.
    for (let column = 0; column < columns; ) {
      const state = m.states[first + row * columns + column];
      let end = column + 1;
      while (end < columns && m.states[first + row * columns + end] === state) end++;
      if (state !== hidden) {
        const fill = state === partial ? '#9ecae1' : '#2171b5';
        squares.push(
          `<rect x="${at(column)}" y="${at(row)}" width="${at(end - column)}" height="${at(1)}" fill="${fill}"/>`,
        );
      }
      column = end;
    }
  }
  const title = `${m.queries} queries by ${m.keys} keys in blocks of ${m.blockSize}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>${title}</title>`,
    `<rect width="${width}" height="${height}" fill="#f7fbff" stroke="#08306b"/>`,
    ...squares,
    '</svg>\n',
  ].join('\n');
}
