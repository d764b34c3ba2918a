import { writeFileAtomic, renderCurveSvg } from 'longspan';
const svg = renderCurveSvg({
  series: [{ name: 'training loss', x: [1, 2, 3, 4], y: [5.5, 3.1, 2.6, 2.4], smooth: true }],
  title: 'Training',
  xLabel: 'step',
  yLabel: 'bits per byte',
});
await writeFileAtomic('loss.svg', svg);


export {};
