#!/usr/bin/env bash
# The stress programs in every way that changes what threads do to each other: matrix.sh PROGRAMS [OPERATIONS [SEED...]]
# where PROGRAMS is the folder of a build with ThreadSanitizer. Of other backends over `libc`, which is the sanitizer's there.
set -euo pipefail
programs=$1
operations=${2:-200000}
shift $(($# < 2 ? $# : 2))
(($#)) || set -- 1 2
export TALLY_LOG=/dev/null TSAN_OPTIONS=halt_on_error=1:die_after_fork=0:second_deadlock_stack=1
output=$(mktemp)
trap 'rm -f "$output"' EXIT
failed=0

run() {
  local started=$SECONDS status=0
  timeout 1800 env "$@" >"$output" 2>&1 || status=$?
  printf '%s %3d s: %s\n' "$( ((status)) && echo FAILED || echo passed)" $((SECONDS - started)) "${*/#*\//}"
  ((status == 0)) || { failed=$((failed + 1)); cat "$output"; }
}

recorded="TALLY_RECORD=1 TALLY_RECORD_MS=10"
sampled="TALLY_SAMPLE=1K TALLY_GUARD=1/4"
for seed; do
  for rule in none module thread; do
    for more in "" "$sampled" "$recorded" "$sampled $recorded TALLY_PURGE_MS=10 TALLY_LIMIT=4G"; do
      # shellcheck disable=SC2086  # words
      run TALLY_TAG_BY=$rule $more "$programs/stress" --seed "$seed" --operations "$operations" --forks 5
    done
  done
  for more in "" "$sampled $recorded TALLY_PURGE_MS=10 TALLY_LIMIT=4G"; do
    # shellcheck disable=SC2086
    run TEST_HARDENED=1 $more "$programs/stress_hardened" --seed "$seed" --operations "$operations" --forks 5
  done
  for more in "" "$sampled" "$recorded" "$sampled $recorded TALLY_LIMIT=1G:soft=20M"; do
    # shellcheck disable=SC2086
    run $more "$programs/limits" --seed "$seed" --operations $((operations / 20))
    # shellcheck disable=SC2086
    run $more "$programs/preempted" --seed $((seed * 1000)) --seeds 50
  done
  for more in "" "$sampled $recorded TALLY_PURGE_MS=10 TALLY_LIMIT=4G"; do
    # shellcheck disable=SC2086
    run TALLY_BACKEND=libc $more "$programs/stress" --seed "$seed" --operations "$operations" --forks 5
    # shellcheck disable=SC2086
    run TALLY_BACKEND=libc $more "$programs/limits" --seed "$seed" --operations $((operations / 20))
    # shellcheck disable=SC2086
    run TALLY_BACKEND=libc $more "$programs/preempted" --seed $((seed * 1000)) --seeds 50
  done
done
((failed == 0)) || { echo "$failed failed"; exit 1; }
