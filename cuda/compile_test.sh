#!/usr/bin/env bash
# compile_test.sh OBJECTS_DIR SOURCE_DIR: every kernel of the sources was compiled for sm_80 and sm_90a, and none spills a
# register. Without nvcc there is nothing to read: skipped (77), or a failure where LETHE_REQUIRE_CUDA=1.
set -euo pipefail
objects=$1
sources=$2
mapfile -t reports < <(find "$objects" -name '*.resources' 2>/dev/null | sort)
if [ "${#reports[@]}" = 0 ]; then
  echo "the CUDA kernels were not compiled: no nvcc when the build was configured"
  if [ "${LETHE_REQUIRE_CUDA:-0}" = 1 ]; then
    echo "and LETHE_REQUIRE_CUDA=1 asks for it"
    exit 1
  fi
  exit 77
fi
# One line a compiled kernel: architecture, mangled name, registers, spills.
lines=$(awk '
  /Compiling entry function/ { split($0, q, "\047"); name = q[2]; arch = q[4] }
  /bytes spill stores/ { spills = $0; sub(/^ */, "", spills) }
  /Used [0-9]+ registers/ { match($0, /Used [0-9]+ registers/); print arch, name, substr($0, RSTART, RLENGTH) ", " spills }
' "${reports[@]}")
mapfile -t kernels < <(cat "$sources"/*.cu "$sources"/*.cuh | tr '\n' ' ' |
  grep -oE '__global__ void +(__launch_bounds__\([^)]*\) *)?[a-z0-9_]+\(' | sed -E 's/.*[ )]([a-z0-9_]+)\($/\1/' | sort -u)
failed=0
for kernel in "${kernels[@]}"; do
  for architecture in sm_80 sm_90a; do
    grep -q "^$architecture [^ ]*${#kernel}$kernel" <<<"$lines" ||
      { echo "$kernel was not compiled for $architecture"; failed=1; }
  done
done
spilling=$(grep -v ' 0 bytes spill stores, 0 bytes spill loads' <<<"$lines" || true)
[ -z "$spilling" ] || { echo "these spill registers:"; echo "$spilling"; failed=1; }
echo "${#kernels[@]} kernels in $(wc -l <<<"$lines") instances: $([ "$failed" = 0 ] && echo none spills || echo FAILED)"
exit "$failed"
