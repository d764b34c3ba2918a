// npm's install script. An installed package uses the prebuilt binary that came with it and builds
// from source only where none fits; a checkout builds whenever its binary is not the one that its
// sources make. No node-gyp, no Python, nothing downloaded.
import { spawnSync } from 'node:child_process';
import {
  buildNative,
  buildOptions,
  defaultBinary,
  isCheckout,
  isFresh,
  main,
  root,
} from './support/native-build.mjs';
import { BuildProblem } from './support/toolchain.mjs';

const { env } = process;

/** The first line of why the addon cannot be loaded, or undefined when it can. */
function loadProblem() {
  // In a child: a binary that crashes on this machine must not take the installation with it.
  const code = `require('node-gyp-build')(${JSON.stringify(root)})`;
  const run = spawnSync(process.execPath, ['-e', code], { cwd: root, encoding: 'utf8' });
  if (run.status === 0) return undefined;
  const line = /^Error: (.*)$/m.exec(run.stderr)?.[1];
  return line ?? (run.signal ? `loading it ended with ${run.signal}` : run.stderr.trim());
}

function installPackage(forced) {
  const problem = forced ? undefined : loadProblem();
  if (!forced && !problem) return;
  try {
    buildNative({ binary: defaultBinary });
  } catch (error) {
    if (!problem || !(error instanceof BuildProblem)) throw error;
    throw new BuildProblem(`no prebuilt binary fits (${problem}), and ${error.message}`);
  }
}

main(() => {
  if (process.platform !== 'linux') {
    const here = `${process.platform}-${process.arch}`;
    throw new BuildProblem(`Linux on x64 or arm64 is supported, this is ${here}`);
  }
  // npm sets the second for `npm install --build-from-source`.
  const forced =
    Boolean(env.LONGSPAN_BUILD_FROM_SOURCE) || env.npm_config_build_from_source === 'true';
  if (!isCheckout) {
    installPackage(forced);
  } else if (forced || !isFresh(defaultBinary, buildOptions()) || loadProblem()) {
    buildNative({ binary: defaultBinary });
  }
});
