// How programs on the emulator are compiled outside of the addon.
import { BuildProblem } from './toolchain.mjs';

/** Flags of kernel files, which let the emulator see every load and store; the same as in CMakeLists.txt. */
export function instrument(compiler) {
  return compiler.includes('clang')
    ? ['-fsanitize=thread', '-mllvm', '-tsan-instrument-func-entry-exit=0']
    : ['-fsanitize=thread', '--param=tsan-instrument-func-entry-exit=0', '-Wno-tsan'];
}

/**
 * Flags of every file and of the linker for LONGSPAN_SANITIZE=undefined: the program ends at the first
 * undefined behaviour. The other sanitizers want the hooks that are the emulator's.
 */
export function sanitize(env = process.env) {
  const wanted = env.LONGSPAN_SANITIZE ?? '';
  if (wanted === '') return [];
  if (wanted !== 'undefined') {
    throw new BuildProblem(
      `LONGSPAN_SANITIZE=${wanted} cannot go with the emulator: use undefined`,
    );
  }
  return ['-fsanitize=undefined', '-fno-sanitize-recover=undefined'];
}
