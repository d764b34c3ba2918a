import * as longspan from 'longspan';
import { declarations } from '#lib/core/declare';
import { addon } from '#lib/native';

// The declarations appear as their modules load.
test('loading the package declares operators', () => {
  expect(Object.keys(longspan).length).toBeGreaterThan(20);
  expect(declarations.size).toBeGreaterThan(2);
});

describe('TypeScript declarations equal the native field lists', () => {
  const native = new Map(addon.describe().map((operator) => [operator.name, operator.fields]));

  test('every native operator is declared, and nothing else', () => {
    expect([...declarations.keys()].sort()).toEqual([...native.keys()].sort());
  });

  test.each([...native.keys()])('%s', (name) => {
    const declared = declarations.get(name) ?? [];
    expect(
      declared.map(({ kind, name, choices }) => ({ kind, name, choices: [...choices] })),
    ).toEqual(
      (native.get(name) ?? []).map(({ kind, name, choices }) => ({
        kind,
        name,
        choices: choices ?? [],
      })),
    );
  });
});
