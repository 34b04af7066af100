#!/usr/bin/env bash
# Whether readers hold up telemetry: how long requests take while /metrics with very many signals, lists and
# the report are read over and over, beside how long they take while nobody reads. Prints a table in Markdown.
#
#   benches/scrape.sh [SIGNALS] [RATE] [SECONDS] [TURNS]
#
# 100,000 watched signals, 10,000 points a second, 10 seconds each; nothing and /metrics in three turns, since the
# longest of some hundred waits says little.
set -euo pipefail
cd "$(dirname "$0")/.."
. benches/lib.sh
signals=${1:-100000} rate=${2:-10000} seconds=${3:-10} turns=${4:-3}
build tidewatch load
HTTP=", metrics_signals: $signals" start scrape << YAML
storage: {path: "$work/data", snapshot_interval: ${SNAPSHOTS:-5m}}
limits: {memory: ${LIMIT:-16GiB}}
rules: [{alert: Any, match: '{signal=~"value|rate"}'}]
YAML

# read_on PATH: asks for it again and again, over one connection, until it is ended, and writes down how many
# bytes came each time. Its own work is not to be in the way: readers are on other machines.
read_on() {
  exec nice -n 19 curl --silent --output /dev/null --header 'Accept-Encoding: gzip' \
    --write-out '%{stderr}%{size_download} %{time_total}\n' "http://$web$1[1-1000000]" 2> "$work/read"
}

sending() {
  "$load" --json --pid "$pid" --endpoint "http://$grpc" --points numbers --series "$signals" --warm-up 1 \
    --rate "$rate" --seconds "$seconds" --connections 1 --in-flight 2 > "$work/load.json"
}

# row WHAT [PATH]: a line of the table. A number is put behind PATH, as a parameter that means nothing.
row() {
  : > "$work/read"
  local reader=
  if [ $# -gt 1 ]; then
    read_on "$2" &
    reader=$!
    pids+=("$reader")
  fi
  sending
  if [ -n "$reader" ]; then
    kill "$reader"
    wait "$reader" 2>/dev/null || true
  fi
  python3 - "$1" "$work/load.json" "$work/read" << 'PYTHON'
import json, sys
what, load, read = sys.argv[1:]
load = json.load(open(load))
reads = [list(map(float, line.split())) for line in open(read)]
mean = lambda at, unit: sum(r[at] for r in reads) / len(reads) / unit if reads else 0
latency = [f"{load['latency_ms'][q]:.2f} ms" for q in ("p50", "p99", "max")]
refused = load["retryable"] + load["failed"]
print(f"| {what} | {len(reads)} | {mean(0, 1 << 20):.1f} MiB | {mean(1, 1e-3):.0f} ms | "
      + " | ".join(latency) + f" | {refused} | {load['cpu_seconds'] / load['seconds']:.2f} |")
PYTHON
}

machine
# Some samples of each, in the past.
"$load" --json --endpoint "http://$grpc" --points numbers --series "$signals" --rounds 12 --step 10 > "$work/fill.json"
echo "$signals watched signals, $rate points a second in requests of 200 (goal: readers cost no point more than 5 ms):"
echo
echo "| read meanwhile | times | each | in | p50 | p99 | longest | refused | cores |"
echo "|---|---|---|---|---|---|---|---|---|"
for _ in $(seq "$turns"); do
  row "nothing"
  row "/metrics" "/metrics?n="
done
row "a page of signals after the other" "/api/v1/series?limit=1000&n="
row "signals that no list has" '/api/v1/series?match%5B%5D=%7Bservice%3D%22nobody%22%7D&n='
row "the most surprising signals" "/api/v1/series?sort=sigma&limit=100&n="
row "the report" "/api/v1/report?n="
echo
echo "Resident: $(field "$pid" VmRSS) MiB, at most $(field "$pid" VmHWM) MiB."
