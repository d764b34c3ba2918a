/** What is said where no GPU can be used: there is none, the addon was built without CUDA, or all are hidden. */
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { root } from '../root.js';

const script = `
  const { autoFallbackReason, device } = require(${JSON.stringify(resolve(root, 'dist/index.js'))});
  const refusal = (name) => {
    try {
      return 'usable: ' + device(name);
    } catch ({ name: type, message }) {
      return type + ': ' + message;
    }
  };
  const auto = device('auto') === device('cpu');
  console.log(JSON.stringify([refusal('cuda'), refusal('cuda:3'), auto, autoFallbackReason()]));
`;

test("'cuda' throws and says what is missing; 'auto' falls back and says why", () => {
  const env = { ...process.env, CUDA_VISIBLE_DEVICES: '' };
  const run = spawnSync(process.execPath, ['-e', script], { env, encoding: 'utf8' });
  expect(run.stderr).toBe('');
  const [first, third, auto, reason] = JSON.parse(run.stdout);
  expect(first).toMatch(/^DeviceUnavailableError: device 'cuda' cannot be used: /);
  expect(third).toMatch(/device 'cuda:3' cannot be used: .*(CUDA|NVIDIA).*doctor/);
  expect(auto).toBe(true);
  expect(reason).toMatch(/CUDA|NVIDIA/);
});
