import { beamSearch } from 'longspan';
// Of tokens 0 to 3, token 2 ends a sequence and is likelier with every step.
const [[found]] = await beamSearch({
  scorer: ({ index, tokens }) =>
    Float32Array.from({ length: tokens.length * 4 }, (_, i) => (i % 4 === 2 ? index - 2 : 0)),
  bos: 1,
  eos: 2,
  maxSteps: 10,
});
console.log(found.tokens, found.score);


export {};
