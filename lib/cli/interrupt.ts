/** Ctrl-C and termination as an `AbortSignal`. */

/** Signals caught while a command runs. */
export interface Interrupt extends Disposable {
  readonly signal: AbortSignal;
}

/**
 * Turns SIGINT and SIGTERM into an abort, so that the command can finish its step and save. A second
 * signal ends the process at once; what is on disk is whole at every moment.
 *
 * @param stopping called at the first signal, to tell the user that the command is ending
 * @example
 * using interrupt = onInterrupt(() => console.error('stopping ...'));
 * await train(model, data, { signal: interrupt.signal });
 */
export function onInterrupt(stopping: () => void): Interrupt {
  const controller = new AbortController();
  const handle = (name: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort(new Error(`received ${name}`));
    stopping();
  };
  process.on('SIGINT', handle);
  process.on('SIGTERM', handle);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      process.off('SIGINT', handle);
      process.off('SIGTERM', handle);
    },
  };
}
