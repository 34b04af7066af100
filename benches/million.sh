#!/usr/bin/env bash
# A million series with full windows: memory, the close of a tick of all of them, saving, and how soon the
# daemon is ready after a restart. Prints a table in Markdown.
#
#   benches/million.sh [SERIES] [ROUNDS]     a million; 102 rounds, so that windows of 100 samples are full
#
# Each round is a tick of history, sent faster than it happened. Needs LIMIT=16GiB of memory at most.
set -euo pipefail
cd "$(dirname "$0")/.."
. benches/lib.sh
series=${1:-1000000} rounds=${2:-102}
build tidewatch load
start million << YAML
storage: {path: "$work/data"}
limits: {memory: ${LIMIT:-16GiB}}
# Long enough to send a whole round in one.
window: {tick: 30s}
YAML

metric() { # name with labels, as awk sees it
  curl --silent "http://$web/metrics" | awk -v name="$1" '$1 == name {print $2}'
}
row() { echo "| $1 | $2 | ${3:-} |"; }

machine
echo "| $series series, one signal each, $rounds samples | | goal |"
echo "|---|---|---|"
"$load" --json --pid "$pid" --endpoint "http://$grpc" --points numbers --series "$series" --rounds "$rounds" \
  --step 30 --memory 2048 > "$work/fill.json"
row "points per CPU-second while windows fill" "$(value "$work/fill.json" items_per_cpu_second | awk '{printf "%.0f", $1}')"
row "resident" "$(field "$pid" VmRSS) MiB" "1,638 MiB (1.6 GiB) for a million"
row "bytes a series, all told" "$(awk -v mib="$(field "$pid" VmRSS)" -v series="$series" 'BEGIN {printf "%.0f", mib * 1048576 / series}')"

# Rounds of the present, each from just behind the end of a tick on; nobody sends when the next one ends. The
# first comes behind a gap, which is noted in each window once; the second is like any other.
tick_lag() { metric tidewatch_detection_lag_seconds_sum; }
for _ in 1 2; do
  sleep $((31 - $(date +%s) % 30))
  "$load" --json --pid "$pid" --endpoint "http://$grpc" --points numbers --series "$series" --rounds 1 \
    --memory 2048 > "$work/live.json"
done
left=$(awk -v now="$(date +%s.%N)" 'BEGIN {printf "%.1f", 28.0 - now % 30}')
sleep "$left"
before=$(cpu "$pid") lag=$(tick_lag)
sleep 10
row "CPU time when a tick of all of them is closed" "$(awk -v a="$before" -v b="$(cpu "$pid")" 'BEGIN {printf "%.2f s", b - a}')" "1 s on one core"
row "from its end until it is decided" "$(awk -v a="$lag" -v b="$(tick_lag)" 'BEGIN {printf "%.2f s", b - a}')"
row "most resident so far, learning saved meanwhile" "$(field "$pid" VmHWM) MiB"

since=$(date +%s.%N)
stop "$pid"
row "to stop, with all saved" "$(awk -v a="$since" -v b="$(date +%s.%N)" 'BEGIN {printf "%.1f s", b - a}')"
row "saved learning" "$(stat --format %s "$work/data/learning.snapshot" | awk '{printf "%.0f MiB", $1 / 1048576}')"
since=$(date +%s.%N)
start_again million
row "from the start until it is ready" "$(awk -v a="$since" -v b="$(date +%s.%N)" 'BEGIN {printf "%.1f s", b - a}')" "5 s"
sleep 1
row "series known then" "$(metric tidewatch_series | awk '{sum += $1} END {print sum}')"
row "resident then" "$(field "$pid" VmRSS) MiB"
