#!/usr/bin/env bash
# Tests and times this tree on a machine with a GPU, which needs neither Node.js nor a network:
#   bash scripts/gpu-host.sh [OPTION...]      options: scripts/gpu-host.mjs --help
# Unpacks the bundle of `npm run gpu-bundle` first, from LONGSPAN_GPU_BUNDLE or build/gpu-bundle.tar.xz.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bundle=${LONGSPAN_GPU_BUNDLE:-build/gpu-bundle.tar.xz}
node=build/gpu/bin/node
if [[ -f $bundle ]]; then
  sum=$(cksum <"$bundle")
  if [[ ! -x $node || $(cat build/gpu/unpacked 2>/dev/null) != "$sum" ]]; then
    if command -v xz >/dev/null; then
      tar -xJf "$bundle"
    elif command -v python3 >/dev/null; then
      python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1], "r:xz").extractall(".")' "$bundle"
    else
      echo "gpu-host: unpacking $bundle needs xz or python3" >&2
      exit 2
    fi
    echo "$sum" >build/gpu/unpacked
  fi
elif [[ ! -x $node ]]; then
  echo "gpu-host: there is no $bundle. 'npm run gpu-bundle' makes it where nvcc is" >&2
  exit 2
fi
exec "$node" scripts/gpu-host.mjs "$@"
