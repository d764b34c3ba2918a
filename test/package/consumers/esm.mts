// An ESM user: named imports of values and types, and the same through a namespace.
import * as longspan from 'longspan';
import { type ErrorCode, LongspanError } from 'longspan';

const code: ErrorCode = 'ERR_VALUE';
const error: LongspanError = new LongspanError(code, 'example');
if (!(error instanceof longspan.LongspanError)) throw new Error('two copies of the package');
console.log(`esm ${error.code}`);
