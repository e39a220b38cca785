#!/usr/bin/env bash
# Runs clang-tidy-14 over the native sources, the native tests and benchmarks, the host shim, and the CUDA backend as the
# shim compiles it: tidy-check.sh [BUILD_DIR]. The build's compile_commands.json must be there (./lethe test writes it).
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
build=${1:-$root/java/lethe/target/native}
commands=$build/compile_commands.json
if [[ ! -f $commands ]] || ! grep -q '/tests/native/' "$commands"; then
  echo "tidy: $commands is missing or was made without the tests; run ./lethe test first" >&2
  exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# One entry for each file: the backends compile the same sources once per instruction set, which makes no difference
# here. Of the generated sources only the shim's unchanged kernels count; nvcc's options mean nothing to clang.
awk -v files="$work/files" '
  /^{/ { entry = ""; keep = 1 }
  { entry = entry $0 "\n" }
  /^ *"command":.*nvcc/ { keep = 0 }
  /^ *"file":/ {
    name = $0
    sub(/^ *"file": *"/, "", name)
    sub(/",?$/, "", name)
    if (seen[name]++ || (name ~ /\/target\// && name !~ /\/wrapped\/objects\//)) keep = 0
  }
  /^}/ {
    sub(/,\n$/, "\n", entry)
    if (keep) {
      printf "%s%s", separator, entry
      separator = ","
      print name >files
    }
  }
  BEGIN { print "[" }
  END { print "]" }' "$commands" >"$work/compile_commands.json"
count=$(wc -l <"$work/files")
if [[ $count -lt 30 ]]; then
  echo "tidy: only $count sources found in $commands" >&2
  exit 1
fi
# Four fifths of the time are the analyzer's paths, most of them through the largest functions: it follows each to a
# quarter of its usual 225000 nodes, which takes two fifths off the whole.
analyzer=(--extra-arg=-Xclang --extra-arg=-analyzer-config --extra-arg=-Xclang --extra-arg=max-nodes=60000)
# omp.h is GCC's; its folder comes last, so that clang keeps its own intrinsics.
omp=$(dirname "$(g++ -print-file-name=include/omp.h)")
if ! xargs -d '\n' -P 2 -n 1 clang-tidy-14 --quiet -p "$work" "${analyzer[@]}" --extra-arg="-idirafter$omp" --extra-arg=-include \
  --extra-arg="$root/cmake/tidy_gcc.h" <"$work/files" >"$work/out" 2>"$work/err"; then
  cat "$work/out" >&2
  grep -v 'warnings\? generated\|warnings treated as errors\|warnings and .* generated' "$work/err" >&2 || true
  echo "tidy: findings in the sources above" >&2
  exit 1
fi
echo "tidy: $count sources, no findings"
