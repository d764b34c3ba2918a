/** Generation whose tokens are kept. */
import { type GenerateOptions, generate, type TransformerLM } from 'longspan';

export async function collect(
  m: TransformerLM,
  options: GenerateOptions,
  prompt: readonly number[] = [1, 2, 3],
): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of generate(m, prompt, options)) tokens.push(token);
  return tokens;
}
