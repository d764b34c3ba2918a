// How programs on the emulator are compiled outside of the addon.
import { spawnSync } from 'node:child_process';
import { BuildProblem } from './toolchain.mjs';

/** Flags of kernel files, which let the emulator see every load and store; the same as in CMakeLists.txt. */
export function instrument(compiler) {
  return compiler.includes('clang')
    ? ['-fsanitize=thread', '-mllvm', '-tsan-instrument-func-entry-exit=0']
    : ['-fsanitize=thread', '--param=tsan-instrument-func-entry-exit=0', '-Wno-tsan'];
}

/**
 * Clang before 15 leaves copies of whole structs in an instrumented file to the C library, where the
 * emulator would not see them: they go to its hooks.
 */
export function showCopies(compiler, object) {
  if (!compiler.includes('clang')) return;
  const names = ['memcpy', 'memmove', 'memset'];
  const renamed = names.flatMap((name) => ['--redefine-sym', `${name}=__tsan_${name}`]);
  const result = spawnSync('objcopy', [...renamed, object], { encoding: 'utf8' });
  if (result.status !== 0) {
    throw new BuildProblem(`objcopy of ${object}: ${result.error?.message ?? result.stderr}`);
  }
}

const KINDS = ['undefined', 'address', 'address,undefined'];

/**
 * What LONGSPAN_SANITIZE asks for: flags of files and of the linker. A program ends at the first
 * finding. No file can have both AddressSanitizer and the instrumentation that is the emulator's:
 * `instrumented` are the flags that go with the latter.
 */
export function sanitize(env = process.env) {
  const wanted = env.LONGSPAN_SANITIZE ?? '';
  if (wanted !== '' && !KINDS.includes(wanted)) {
    throw new BuildProblem(
      `LONGSPAN_SANITIZE=${wanted} cannot go with the emulator: use ${KINDS.join(' or ')}`,
    );
  }
  const undefinedFlags = wanted.endsWith('undefined')
    ? ['-fsanitize=undefined', '-fno-sanitize-recover=undefined']
    : [];
  const address = wanted.startsWith('address');
  const addressFlags = address ? ['-fsanitize=address', '-fno-omit-frame-pointer'] : [];
  return { address, flags: [...addressFlags, ...undefinedFlags], instrumented: undefinedFlags };
}
