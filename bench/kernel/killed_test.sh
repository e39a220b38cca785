#!/usr/bin/env bash
# killed_test.sh KERNEL_BENCH PLUGIN_DIR: what was measured before kernel_bench is killed stands in its files, which are whole.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
exec 3< <(exec "$1" run "$2" cuda_shim --small --only norm --prefix "$work/found")
pid=$!
read -r first <&3
read -r _ <&3
kill -KILL "$pid"
while read -r _ <&3; do :; done
stop() { echo "killed: $1" >&2; cat "$work"/found* >&2; exit 1; }
[[ $first == "timed"*"norm_forward rms"* ]] || stop "the first line is '$first'"
[[ -s $work/found.json && $(tail -n 1 "$work/found.json") == ']}' ]] || stop "the JSON has no end"
grep -q '"name":"norm_forward rms".*"status":"timed".*"ms_median"' "$work/found.json" || stop "the first op is not in the JSON"
grep -q '^| norm_forward rms | small | bf16 | 0' "$work/found.md" || stop "the first op is not in the table"
[[ $(grep -c '"why":"did not end"' "$work/found.json") -le 1 ]] || stop "several ops did not end"
echo "killed: what was measured stands"
