#!/usr/bin/env bash
# What of the bundle and of bench/gpu/run can be tested in moments: contents, size, the launcher in a bundle, exit codes.
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

expect() {
  local status=0
  "${@:4}" >"$work/output" 2>&1 || status=$?
  if [[ $status != "$2" ]] || ! grep -qF -- "$3" "$work/output"; then
    echo "FAILED: $1: exit $status, wanted $2 with '$3':"
    cat "$work/output"
    failures=$((failures + 1))
  fi
}

# A tree with one empty file for each that a bundle must have.
fake_tree() {
  local tree=$1 abi=lib/natives/org/lethe/internal/abi/linux-x86_64 op
  mkdir -p "$tree"/{runtime/bin,runtime/lib/server,bench/gpu,bench/peers/gpu,lib,$abi,lib/natives/org/bytedeco/dnnl/linux-x86_64,tests/native} \
    "$tree"/tests/golden/{llama-tiny,families}
  (cd "$tree"
    touch README.md LICENSE COMMIT runtime/lib/server/libjvm.so bench/gpu/run bench/peers/gpu/main.py lib/lethe{,-bench,-tests}.jar \
      lib/{javacpp,tokenizers,slf4j-simple,junit-jupiter-engine,junit-platform-launcher}-1.jar $abi/libjniAbi.so \
      $abi/liblethe{,_cpu_avx2,_cpu_avx512,_cuda}.so lib/natives/org/bytedeco/dnnl/linux-x86_64/lib{dnnl.so.3,gomp.so.1} \
      tests/native/{kernel,head}_bench
    for op in activation attention head head_fused linear linear_nf4 norm quantize random rotary rows update update_part; do
      touch tests/native/${op}{,_small}_test
    done)
  cp "$repo/lethe" "$tree/lethe"
  printf '#!/bin/bash\nprintf "%%s\\n" "java $*"\n' >"$tree/runtime/bin/java"
  chmod +x "$tree/runtime/bin/java"
}

bundle=$repo/bench/gpu/bundle
expect "an unknown option" 2 "usage: bench/gpu/bundle" "$bundle" --fast
fake_tree "$work/tree"
expect "a complete tree" 0 "bytes" "$bundle" --from "$work/tree" --quick --output "$work/out"
first=$(sha256sum "$work"/out/*.tar.xz)
touch "$work/tree/COMMIT"
expect "the same again" 0 "bytes" "$bundle" --from "$work/tree" --quick --output "$work/out"
[[ $first == "$(sha256sum "$work"/out/*.tar.xz)" ]] || { echo "FAILED: one content, two archives"; failures=$((failures + 1)); }
expect "too large" 1 "more than 100 bytes" "$bundle" --from "$work/tree" --quick --output "$work/out" --most 100
rm "$work/tree/lib/tokenizers-1.jar" "$work/tree/tests/native/rows_small_test"
expect "an incomplete tree" 1 "lacks lib/tokenizers-*.jar tests/native/rows_small_test" "$bundle" --from "$work/tree" --quick \
  --output "$work/out"

# The launcher takes the bundle's own Java and classes, and builds nothing.
expect "a verb" 0 "-cp $work/tree/lib/natives:$work/tree/lib/* org.lethe.internal.cli.Main doctor --json" \
  "$work/tree/lethe" doctor --json
expect "lethe test in a bundle" 2 "bench/gpu/run check" "$work/tree/lethe" test

# On a device that hangs: each command is ended in time for its results, which later runs do not write over; the GPU's
# libraries are found in the Python that has them.
fake=$work/tree/tests/native
mkdir -p "$work/python/nvidia/cu13/lib"
touch "$work/python/nvidia/cu13/lib/libcublasLt.so.13"
cat >"$fake/kernel_bench" <<'END'
#!/bin/bash
[[ $LETHE_CUBLASLT == */python/nvidia/cu13/lib/libcublasLt.so.13 ]] || { echo "cuBLASLt was not found" >&2; exit 4; }
[[ $1 == run ]] || { echo '{"device":"NVIDIA Fake","lora_form":"plain"}'; exit 0; }
while [[ $1 != --prefix ]]; do shift; done
echo '{}' >"$2.json"
exec sleep 100
END
printf '#!/bin/bash\nexec sleep 100\n' >"$fake/norm_test"
rm "$fake"/head_bench "$fake"/*_small_test
find "$fake" -name '*_test' ! -name norm_test ! -name kernel_bench -delete
chmod +x "$fake"/*
cp "$repo/bench/gpu/run" "$work/tree/bench/gpu/run"
run_fake() { LETHE_GPU_SECONDS=17 LETHE_RESULTS=$work/results PYTHONPATH=$work/python bash "$work/tree/bench/gpu/run" "$1"; }
expect "ops that hang" 1 "the ops were cut off" run_fake bench
expect "the same again" 1 "bench-nvidia-fake-2.json" run_fake bench
expect "a test that hangs" 1 "timeout norm" run_fake check
grep -q '"name":"norm".*"status":"timeout"' "$work"/results/*-check-nvidia-fake.json ||
  { echo "FAILED: a test that hangs is not in the results"; failures=$((failures + 1)); }
expect "steps that fail" 1 "e2e-nvidia-fake-demo.json" run_fake e2e
grep -q '"status":"did not end"' "$work"/results/*-e2e-nvidia-fake-demo.json ||
  { echo "FAILED: a demo without a verdict is not told"; failures=$((failures + 1)); }
[[ $(find "$work/results" -name '*-bench-*.json' | wc -l) == 2 ]] || { echo "FAILED: results were written over"; failures=$((failures + 1)); }

# What is not built is said; nothing is built behind one's back.
mkdir -p "$work/bare/bench/gpu"
cp "$bundle" "$repo/bench/gpu/run" "$work/bare/bench/gpu/"
expect "nothing built" 2 "mvn -Pbundle package" "$work/bare/bench/gpu/bundle"
expect "nothing built to run" 2 "./lethe test builds all" "$work/bare/bench/gpu/run" check
expect "an unknown verb" 2 "usage: bench/gpu/run" "$repo/bench/gpu/run" fly
natives=${LETHE_NATIVE_BUILD:-$repo/java/lethe/target/native}
if [[ -x $natives/bench/kernel_bench && -e $natives/liblethe_cuda.so ]]; then
  for verb in check bench peers scaling e2e; do
    LETHE_NATIVE_BUILD=$natives CUDA_VISIBLE_DEVICES='' expect "$verb without a device" 3 "no CUDA device" \
      "$repo/bench/gpu/run" "$verb"
  done
else
  echo "skipped: bench/gpu/run without a device, since liblethe_cuda.so is not built"
fi
[[ $failures == 0 ]] && echo "bundle: all expectations hold"
exit $((failures > 0))
