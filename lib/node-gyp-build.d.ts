declare module 'node-gyp-build' {
  /** Finds the addon of the package in `dir` and loads it. */
  interface Load {
    (dir: string): unknown;
    /** The file that would be loaded; throws when there is none for this platform. */
    resolve(dir: string): string;
  }
  const load: Load;
  export = load;
}
