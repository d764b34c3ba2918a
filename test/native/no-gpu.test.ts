/** What an addon without CUDA says when it is asked for a GPU. */
import { autoFallbackReason, DeviceUnavailableError, device } from 'longspan';

test("'cuda' throws and says what is missing; 'auto' falls back and says why", () => {
  expect(() => device('cuda')).toThrow(DeviceUnavailableError);
  expect(() => device('cuda:3')).toThrow(/device 'cuda:3' cannot be used: .*CUDA.*doctor/);
  expect(device('auto')).toBe(device('cpu'));
  expect(autoFallbackReason()).toMatch(/CUDA/);
});
