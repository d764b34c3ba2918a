import { readdirSync } from 'node:fs';
const out = new URL('./out/', import.meta.url);
for (const file of readdirSync(out).filter((name) => name.endsWith('.mjs')).sort()) {
  const log = console.log;
  console.log = () => {};
  try {
    await import(new URL(file, out));
  } catch (error) {
    process.exitCode = 1;
    console.error(`${file}: ${error instanceof Error ? error.stack : error}`);
  }
  console.log = log;
}
