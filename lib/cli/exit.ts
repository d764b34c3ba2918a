/** How a command ends: exit codes, and errors as one line. */

/** Exit codes of `longspan`. */
export const exitCode = {
  ok: 0,
  /** The command failed; one line on standard error says why. */
  failed: 1,
  /** The command line was not understood; nothing was done. */
  usage: 2,
  /** Ctrl-C or a termination signal; what was trained is saved. */
  interrupted: 130,
} as const;

/** Errors of this package carry such a code; `instanceof` would tie the CLI to loading it all. */
interface Failure {
  readonly name?: string;
  readonly message?: string;
  readonly code?: string;
  readonly stack?: string;
}

/** Whether an error says that the caller's signal fired. */
export function isAbort(error: unknown): boolean {
  const { code, name } = (error ?? {}) as Failure;
  return code === 'ERR_ABORTED' || name === 'AbortError';
}

/**
 * The line that reports an error: its message, which holds the remedy. With `LONGSPAN_DEBUG` set, or
 * for an error that is not one of this package's, the stack follows: then it is a mistake in longspan.
 */
export function describeFailure(error: unknown, debug = process.env.LONGSPAN_DEBUG): string {
  const { code, name, message, stack } = (error ?? {}) as Failure;
  const line = `longspan: ${message ?? String(error)}`;
  const known = typeof code === 'string' && /^ERR_[A-Z_]+$/.test(code) && /Error$/.test(name ?? '');
  if (debug || !known) return stack ? `${line}\n${causes(error)}` : line;
  return `${line} [${code}]`;
}

/** Stacks of an error and of what caused it. */
function causes(error: unknown): string {
  const stacks: string[] = [];
  for (let at = error as { stack?: string; cause?: unknown } | undefined; at?.stack; ) {
    stacks.push(at.stack);
    at = at.cause as typeof at;
  }
  return stacks.join('\ncaused by: ');
}
