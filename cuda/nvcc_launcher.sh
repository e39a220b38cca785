#!/usr/bin/env bash
# nvcc_launcher.sh NVCC ARGUMENT...: compiles, and keeps what the assembler says of every kernel's registers, shared
# memory and spills in a file beside the object: compile_test.sh and docs/kernels.md read it there.
set -uo pipefail
object=''
previous=''
for argument in "$@"; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
said=$("$@" 2>&1)
status=$?
if [ -n "$object" ] && [ "$status" = 0 ]; then
  grep '^ptxas info\|bytes stack frame' <<<"$said" >"$object.resources"
  said=$(grep -v '^ptxas info\|bytes stack frame' <<<"$said")
fi
[ -z "$said" ] || printf '%s\n' "$said" >&2
exit "$status"
