const { availableParallelism } = require('node:os');

const common = {
  testEnvironment: 'node',
  roots: ['<rootDir>/.test-build/test'],
  transform: {}, // tsc has compiled the tests
};
// What belongs to the published addon: how it is installed and found, processes that load it.
const published = ['native', 'package', 'cli'];

/** @type {import('jest').Config} */
module.exports = {
  // The library computes on a thread pool of its own: more workers than this only take turns.
  maxWorkers: Math.min(4, availableParallelism()),
  // A worker that has run many suites holds gigabytes: it is replaced before.
  workerIdleMemoryLimit: '512MB',
  // V8 takes about a millisecond per megabyte of its heap to end, without the addon too; Jest waits for
  // half a second and then reports a leak.
  workerGracefulExitTimeout: 5_000,
  // Finite differences and training runs take seconds, several times that on a busy machine.
  testTimeout: 60_000,
  projects: [
    {
      ...common,
      displayName: 'published',
      testMatch: published.map((folder) => `**/.test-build/test/${folder}/**/*.test.js`),
    },
    {
      ...common,
      displayName: 'emulated',
      // The same CPU code, and a GPU on the emulator beside it.
      setupFiles: ['<rootDir>/.test-build/test/support/emulated.js'],
      testMatch: ['**/*.test.js'],
      testPathIgnorePatterns: published.map((folder) => `/.test-build/test/${folder}/`),
    },
  ],
};
