#!/usr/bin/env bash
# What a daemon takes that has little to do: nothing at all, 10,000 points a second, and 10,000 series that
# have fallen silent. Prints a table in Markdown.
#
#   benches/idle.sh [SECONDS]      seconds of each measurement, 60 by default
set -euo pipefail
cd "$(dirname "$0")/.."
. benches/lib.sh
seconds=${1:-60}
build tidewatch load
start idle <<< "storage: {path: '$work/data'}"

row() { # what, CPU-seconds, seconds, goal
  awk -v what="$1" -v cpu="$2" -v seconds="$3" -v goal="$4" -v all="$(field "$pid" VmRSS)" \
    -v heap="$(field "$pid" RssAnon)" \
    'BEGIN {printf "| %s | %.2f %% | %d | %d | %s |\n", what, 100 * cpu / seconds, all, heap, goal}'
}
rest() { # what, goal
  local before after
  before=$(cpu "$pid")
  sleep "$seconds"
  after=$(cpu "$pid")
  row "$1" "$(awk -v a="$before" -v b="$after" 'BEGIN {print b - a}')" "$seconds" "$2"
}

machine
echo "| | of a core | resident MiB | of that anonymous | goal |"
echo "|---|---|---|---|---|"
sleep 5
rest "nothing to do" "0.5 %, 40 MiB"
"$load" --json --pid "$pid" --endpoint "http://$grpc" --rate 10000 --series 10000 --warm-up 10 \
  --seconds "$seconds" > "$work/load.json"
row "10,000 points a second of 10,000 series" "$(value "$work/load.json" cpu_seconds)" \
  "$(value "$work/load.json" seconds)" "5 %"
# What was open is closed, and the first tick without data is over.
sleep 20
rest "10,000 series, silent" "0.5 %"
