import { generate } from 'longspan';
for await (const token of generate(model, [72, 105], { maxTokens: 100, seed: 1 })) {
  process.stdout.write(String.fromCharCode(token));
}


export {};
