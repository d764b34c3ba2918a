// A CommonJS user.
import longspan = require('longspan');

const code: longspan.ErrorCode = 'ERR_VALUE';
const error: longspan.LongspanError = new longspan.LongspanError(code, 'example');
// ESM and CommonJS must meet the same classes: there is one output, not two.
void import('longspan').then((esm) => {
  if (!(error instanceof esm.LongspanError)) throw new Error('two copies of the package');
  console.log(`cjs ${error.code}`);
});
