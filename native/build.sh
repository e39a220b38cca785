#!/usr/bin/env bash
# Configures and builds the native libraries: build.sh BUILD_DIR DNNL_DIR [CUDA_ARCHITECTURES [ALL_FAULTS [CUDA_COMPRESSION]]]
# LETHE_NATIVE_TESTS=OFF leaves the native tests out (./lethe does, to start sooner).
set -euo pipefail
build=$1
dnnl=$2
architectures=${3:-80-real;90a-real;90-virtual}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# A tree that was moved or copied brings a build directory that CMake refuses: it knows where it was made.
made=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$build/CMakeCache.txt" 2>/dev/null || true)
[[ -z $made || $made -ef $here ]] || rm -rf "$build"
cmake -S "$here" -B "$build" -DLETHE_DNNL="$dnnl" -DLETHE_TESTS="${LETHE_NATIVE_TESTS:-ON}" \
  -DLETHE_CUDA_ARCHITECTURES="$architectures" -DLETHE_ALL_FAULTS="${4:-OFF}" \
  -DLETHE_CUDA_COMPRESSION="${5:-size}" >"$build.configure.log" 2>&1 ||
  { cat "$build.configure.log"; exit 1; }
cmake --build "$build" --parallel "$(nproc)"
