#!/usr/bin/env bash
# resources.sh NVCC REPORT INCLUDE_DIR SOURCE...: what the assembler says of every kernel for sm_80 and sm_90a.
set -euo pipefail
nvcc=$1
report=$2
include=$3
shift 3
: >"$report.part"
for arch in sm_80 sm_90a; do
  for source in "$@"; do
    "$nvcc" -std=c++17 -O3 --cubin -arch="$arch" -Xptxas -v -I . -I "$include" "$source" -o "$report.cubin" \
      >>"$report.part" 2>&1 || { cat "$report.part"; exit 1; }
  done
done
mv "$report.part" "$report"
