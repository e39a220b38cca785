#!/usr/bin/env bash
# compile_test.sh RESOURCES KERNEL...: each kernel was compiled for sm_80 and sm_90a, and none spills a register.
# Without nvcc there is nothing to read: skipped (77), or a failure where LETHE_REQUIRE_CUDA=1.
set -euo pipefail
resources=$1
shift
if [ ! -f "$resources" ]; then
  echo "the CUDA kernels were not compiled: no nvcc when the build was configured"
  if [ "${LETHE_REQUIRE_CUDA:-0}" = 1 ]; then
    echo "and LETHE_REQUIRE_CUDA=1 asks for it"
    exit 1
  fi
  exit 77
fi
for kernel in "$@"; do
  for architecture in sm_80 sm_90a; do
    report=$(grep -A 3 "Compiling entry function '[^']*$kernel[^']*' for '$architecture'" "$resources") ||
      { echo "$kernel was not compiled for $architecture"; exit 1; }
    spills=$(grep -o '[0-9]* bytes spill stores, [0-9]* bytes spill loads' <<<"$report")
    registers=$(grep -o 'Used [0-9]* registers' <<<"$report")
    echo "$kernel, $architecture: $registers, $spills"
    [ "$spills" = "0 bytes spill stores, 0 bytes spill loads" ] || { echo "$kernel spills on $architecture"; exit 1; }
  done
done
