const { availableParallelism } = require('node:os');

/** @type {import('jest').Config} */
module.exports = {
  testEnvironment: 'node',
  roots: ['<rootDir>/.test-build/test'],
  testMatch: ['**/*.test.js'],
  transform: {}, // tsc has compiled the tests
  // The library computes on a thread pool of its own: more workers than this only take turns.
  maxWorkers: Math.min(4, availableParallelism()),
  // Finite differences and training runs take seconds, several times that on a busy machine.
  testTimeout: 60_000,
};
