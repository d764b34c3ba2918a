import { ArgumentError } from 'longspan';
import { checkOptions } from '#lib/core/options';

function refusal(options: object, allowed: readonly string[]): ArgumentError {
  try {
    checkOptions('softmax', options, allowed);
  } catch (error) {
    expect(error).toBeInstanceOf(ArgumentError);
    return error as ArgumentError;
  }
  throw new Error('nothing was thrown');
}

test('known options pass, also as undefined', () => {
  checkOptions('softmax', { axis: 1, keepDims: undefined }, ['axis', 'keepDims']);
  checkOptions('softmax', {}, []);
});

test('a misspelt option names itself and the nearest known one', () => {
  const error = refusal({ keepDim: true }, ['axis', 'keepDims']);
  expect(error.code).toBe('ERR_OPTION');
  expect(error.argument).toBe('keepDim');
  expect(error.message).toContain("Did you mean 'keepDims'?");
});

test('an option unlike any other lists the known ones', () => {
  expect(refusal({ temperature: 1 }, ['axis']).message).toContain("Its options are 'axis'");
  expect(refusal({ temperature: 1 }, []).message).toContain('It has no options');
});

test('options must be an object', () => {
  expect(refusal([1], ['axis']).message).toContain("'options' is [1]");
});
