/** @type {import('jest').Config} */
module.exports = {
  testEnvironment: 'node',
  roots: ['<rootDir>/.test-build/test'],
  testMatch: ['**/*.test.js'],
  transform: {}, // tsc has compiled the tests
};
