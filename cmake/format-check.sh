#!/usr/bin/env bash
# Checks that every C, C++ and CUDA source is as clang-format-14 writes it; --fix rewrites them instead.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=(--dry-run -Werror)
[[ ${1:-} == --fix ]] && mode=(-i)
roots=()
for directory in native cuda tests/native bench; do
  [[ -d $directory ]] && roots+=("$directory")
done
find "${roots[@]}" -name target -prune -o -type f \
  \( -name '*.h' -o -name '*.c' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
  xargs -0 -r clang-format-14 "${mode[@]}"
