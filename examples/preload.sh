#!/usr/bin/env bash
# A program that nobody rebuilt, under Tally: python3 with a script that marks its parts by tags. It leaves a report as
# it ends, and this looks what it did under each tag, and that nothing was left there.
# usage: examples/preload.sh [LIBRARY]
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
library=${1:-$here/../build/release/lib/libtally.so}
report=$(mktemp --suffix=.json)
trap 'rm -f "$report"' EXIT

LD_PRELOAD=$library TALLY_REPORT=$report PYTHONMALLOC=malloc python3 "$here/python_churn.py" 100
"$here/../tools/tally-dump" --classes 5 "$report"

python3 - "$report" <<'END'
import json, sys
tags = {tag["name"]: tag for tag in json.load(open(sys.argv[1]))["tags"]}
for name in "/text", "/store/documents", "/store/index", "/cache":
    if tags[name]["requested_bytes"] < 1 << 20 or tags[name]["live_blocks"] != 0:
        sys.exit(f"NOT SO: {name} was used, and holds nothing at the end: {tags[name]}")
END
