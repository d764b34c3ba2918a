import { generateText } from 'longspan';
for await (const piece of generateText(model, 'export ', { maxTokens: 200, temperature: 0.8 })) {
  process.stdout.write(piece);
}


export {};
