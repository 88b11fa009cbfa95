#!/usr/bin/env bash
# A client of redis that puts its values into the text of its scripts, so that each is a new one. Redis keeps every
# script that it ever ran: leaking_redis.sh PORT [SECONDS]
set -euo pipefail
port=${1:?usage: leaking_redis.sh PORT [SECONDS]}
seconds=${2:-2}

scripts() {
  local n
  for ((n = 0; SECONDS < seconds; n++)); do
    printf "EVAL \"redis.call('set', 'user:%d', '%d') return %d\" 0\r\n" $((n % 50)) "$n" "$n"
  done
  echo "$n scripts" >&2
}
scripts | redis-cli -p "$port" >/dev/null
