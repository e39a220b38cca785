#!/usr/bin/env bash
# Writes docs/kernels.md from the sources, the planted faults and the results of `bench/gpu/run check`; --check fails
# where the file is not what would be written.
set -euo pipefail
cd "$(dirname "$0")/.."
document=docs/kernels.md

# The native test whose cases a source's kernels must pass; the CPU's source for the same op, of attention by kernel.
test_of() {
  case "$1" in
    attention*) echo attention ;;
    backend.cu) echo activation ;; # every test opens the device
    dropout* | gemm* | linear*) echo linear ;;
    embedding* | index* | gather*) echo rows ;;
    head_fused*) echo head_fused ;;
    head_rows* | head_look.cuh | head_logits.cuh | head_statistics.cuh) echo head_rows ;;
    head*) echo head ;;
    memory.cu) echo chain ;;
    nf4*) echo quantize ;;
    random_normal*) echo random ;;
    norm*) echo norm ;;
    *) basename "${1%.*}" ;;
  esac
}
cpu_of() {
  local base=${1%.*}
  case "$base" in
    attention*)
      case "$2" in
        plan_*) base=attention_plan ;;
        decode_*) echo "\`native/cpu/attention_decode.h\`" && return ;;
        *forward_*) base=attention_forward ;;
        *) base=attention_backward ;;
      esac
      ;;
    backend | index) echo - && return ;;
    dropout) base=linear ;;
    head_sums) base=head_combine ;;
    norm*) base=norm ;;
  esac
  while [ ! -e "native/cpu/$base.cpp" ] && [[ $base == *_* ]]; do base=${base%_*}; done
  [ -e "native/cpu/$base.cpp" ] && echo "\`native/cpu/$base.cpp\`" || echo -
}

# "date, commit" of the newest result in which a test passed on a device.
passed_on_device() {
  local file line
  for file in $(ls -rv bench/results/*-check-*.json 2>/dev/null); do
    line=$(tr '{' '\n' <"$file" | grep "\"name\":\"$1\"" | grep '"tool":"none"' | head -n 1 || true)
    if grep -q '"status":"passed"' <<<"$line"; then
      echo "$(basename "$file" | cut -c 1-10), $(grep -oE '"commit":"[^"]*"' "$file" | head -n 1 | cut -d'"' -f4)"
      return
    fi
  done
  echo "none yet"
}

# Faults planted in a file: lines of cuda/mutants.cmake that name it.
faults_of() { grep -cE "^ *add_(op_)?mutant\([a-z0-9_]+ ([a-z_]+ )?$1 " cuda/mutants.cmake || true; }

write() {
  cat <<'TEXT'
# Kernels

Every CUDA kernel, how it is proven, and where. Written by `cmake/kernels-doc.sh`; a test holds it to the sources.

*shim*: the `.cu` source itself passes its op's cases in every build, run on the host by `cuda/shim` (blocks one after
the other, threads as fibers), also under AddressSanitizer and UBSan. *faults*: how many faults planted in the source the
suite must find: dropped barriers, tails off by one, wrong signs. A GPU pass counts from a result in `bench/results`.

| kernel | source | beside | cases | proof | faults | last GPU pass |
|---|---|---|---|---|---|---|
TEXT
  local source kernel test
  for source in cuda/*.cu cuda/*.cuh; do
    source=$(basename "$source")
    test=$(test_of "$source")
    tr '\n' ' ' <"cuda/$source" | { grep -oE '__global__ void +(__launch_bounds__\([^)]*\) *)?[a-z0-9_]+\(' || true; } |
      sed -E 's/.*[ )]([a-z0-9_]+)\($/\1/' | sort -u | while read -r kernel; do
      echo "| ${kernel%_kernel} | \`cuda/$source\` | $(cpu_of "$source" "$kernel") | $test | shim |" \
        "$(faults_of "$source") | $(passed_on_device "$test") |"
    done
  done
  cat <<'TEXT'

## What the shim cannot run

| what | stands behind | twin, and what proves it |
|---|---|---|
| matrix products (cuBLASLt) | `gemm` in `cuda/gemm.cu` | *twin only*: `cuda/shim/cublaslt_twin.cpp` answers the same calls over host memory, with every argument checked; `cuda/gemm.cu` itself runs on it in all cases |
| `mma`, `ldmatrix`, `cp.async` | the wrappers of `cuda/mma.cuh` | their host branches write the fragment layout out; the kernels around them run on the shim. The instructions are *GPU only* |
| `exp`, `log` and `rsqrt` of the special function unit | intrinsics in `cuda/common.cuh` | the C library's; the tolerances allow the unit's documented error. *GPU only* |
| races between barriers | - | *GPU only*: `bench/gpu/run check` under `compute-sanitizer --tool racecheck` |

Registers, shared memory and spills of each kernel on sm_80 and sm_90a stand beside its object after a build with nvcc
(`*.cu.o.resources`); a test refuses spills.
TEXT
}

if [ "${1:-}" = --check ]; then
  if ! diff -u "$document" <(write); then
    echo "$document is not what the sources say; run bash cmake/kernels-doc.sh" >&2
    exit 1
  fi
else
  write >"$document.new"
  mv "$document.new" "$document"
fi
