#!/usr/bin/env bash
# no_device_test.sh COMMAND...: without a device the program says so and exits with 3.
set -uo pipefail
output=$(CUDA_VISIBLE_DEVICES='' "$@" 2>&1)
status=$?
echo "$output"
[ "$status" = 3 ] && grep -q 'no CUDA device' <<<"$output"
