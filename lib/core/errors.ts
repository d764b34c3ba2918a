/**
 * Every error longspan throws. Each has a stable `code` to switch on, and a message that names the
 * argument, the value that was given and what to do about it.
 */

/** Stable codes; they never change meaning within a major version. */
export type ErrorCode =
  | 'ERR_DTYPE'
  | 'ERR_RANK'
  | 'ERR_SHAPE'
  | 'ERR_DEVICE'
  | 'ERR_VALUE'
  | 'ERR_OPTION'
  | 'ERR_DISPOSED'
  | 'ERR_OUT_OF_MEMORY'
  | 'ERR_OPERATOR_FAILED'
  | 'ERR_UNSUPPORTED'
  | 'ERR_GRAPH'
  | 'ERR_DEVICE_UNAVAILABLE'
  | 'ERR_DEVICE_LOST'
  | 'ERR_FORMAT'
  | 'ERR_FILE'
  | 'ERR_CHECKPOINT'
  | 'ERR_NATIVE_LOAD'
  | 'ERR_ABORTED';

/** What an error tells beside its message. */
export interface ErrorDetails {
  /** The operator or function, for example `matmul`. */
  operator?: string;
  /** The argument, option or field at fault. */
  argument?: string;
  /** The value that was given, as text. */
  value?: string;
  /** What to do about it, as one sentence. */
  remedy?: string;
  cause?: unknown;
}

/** Base class of every error thrown by this package. */
export class LongspanError extends Error {
  readonly code: ErrorCode;
  readonly operator: string | undefined;
  readonly argument: string | undefined;
  readonly value: string | undefined;
  readonly remedy: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(
      details.remedy ? `${message}. ${details.remedy}` : message,
      details.cause === undefined ? undefined : { cause: details.cause },
    );
    this.name = new.target.name;
    this.code = code;
    this.operator = details.operator;
    this.argument = details.argument;
    this.value = details.value;
    this.remedy = details.remedy;
  }
}

/** An argument has the wrong dtype, rank, shape, device or value, or an option is unknown. */
export class ArgumentError extends LongspanError {
  /**
   * @param operator the function that was called, `matmul`
   * @param argument the parameter at fault, `a`
   * @param value what was given, as text: `f32[3, 4]`
   * @param remedy what to do, a sentence without its full stop
   */
  constructor(
    code: 'ERR_DTYPE' | 'ERR_RANK' | 'ERR_SHAPE' | 'ERR_DEVICE' | 'ERR_VALUE' | 'ERR_OPTION',
    operator: string,
    argument: string,
    value: string,
    remedy: string,
    cause?: unknown,
  ) {
    super(code, `${operator}: '${argument}' is ${value}`, {
      operator,
      argument,
      value,
      remedy,
      cause,
    });
  }
}

/** A tensor was used after `dispose`, after its `tidy` scope, or after `backward` released it. */
export class DisposedError extends LongspanError {
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_DISPOSED', message, details);
  }
}

/** A device has no room for an allocation, even after its caches were freed. */
export class OutOfMemoryError extends LongspanError {
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_OUT_OF_MEMORY', message, details);
  }
}

/** An operator failed after it was enqueued; tensors computed from its outputs carry this error. */
export class OperatorError extends LongspanError {
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_OPERATOR_FAILED', message, details);
  }
}

/** A combination of options that longspan does not offer; it never falls back in silence. */
export class UnsupportedError extends LongspanError {
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_UNSUPPORTED', message, details);
  }
}

/** Misuse of automatic differentiation: a consumed graph, a saved tensor changed in place, no graph. */
export class GraphError extends LongspanError {
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_GRAPH', message, details);
  }
}

/** The requested device does not exist or cannot be used; the message says what is missing. */
export class DeviceUnavailableError extends LongspanError {
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_DEVICE_UNAVAILABLE', message, details);
  }
}

/**
 * A GPU is lost to this process: every operator on it, and every read of what it holds, fails with this
 * from now on. The CPU and other GPUs go on.
 */
export class DeviceLostError extends LongspanError {
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_DEVICE_LOST', message, details);
  }
}

/** A file is not what its format promises: truncated, hostile or inconsistent. */
export class FormatError extends LongspanError {
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_FORMAT', message, details);
  }
}

/** A file cannot be found, read or written. */
export class FileError extends LongspanError {
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_FILE', message, details);
  }
}

/** A checkpoint does not fit the model or the run that tries to load it. */
export class CheckpointError extends LongspanError {
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_CHECKPOINT', message, details);
  }
}

/** The native addon could not be loaded; the message lists every attempt and its cure. */
export class NativeLoadError extends LongspanError {
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_NATIVE_LOAD', message, details);
  }
}

/** The caller's `AbortSignal` fired. Work already saved stays saved. */
export class AbortError extends LongspanError {
  constructor(message: string, details: ErrorDetails = {}) {
    super('ERR_ABORTED', message, details);
  }
}
