#!/usr/bin/env bash
# Tidewatch with its built-in rules beside rotel 0.0.1a15 that receives and throws away, on the same
# bytes, in turns. Prints a table in Markdown: medians over the rounds, and the median of their ratios.
#
#   benches/peer.sh [ROUNDS] [SECONDS]
#
# ROTEL=/path/to/rotel-agent takes one that is there, instead of installing it from PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."
. benches/lib.sh
rounds=${1:-5} seconds=${2:-8}
build tidewatch load
if [ -z "${ROTEL:-}" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check rotel==0.0.1a15
  ROTEL=$(find "$work/venv" -name rotel-agent -type f)
fi

start tidewatch <<< "storage: {path: '$work/data'}"
ours=$pid
their_grpc=127.0.0.1:$(free_port)
their_http=127.0.0.1:$(free_port)
"$ROTEL" start --exporter blackhole --pid-file "$work/rotel.pid" --log-file "$work/rotel.out" \
  --otlp-grpc-endpoint "$their_grpc" --otlp-http-endpoint "$their_http" > "$work/rotel.log" 2>&1 &
theirs=$!
pids+=("$theirs")
for address in "$their_grpc" "$their_http"; do
  until (exec 3<> "/dev/tcp/${address%:*}/${address#*:}") 2> /dev/null; do
    kill -0 "$theirs"
    sleep 0.1
  done
done

measure() { # name, pid, address, signal, transport
  "$load" --json --pid "$2" --signal "$4" --transport "$5" --endpoint "http://$3" \
    --seconds "$seconds" > "$work/one.json"
  python3 - "$work/one.json" "$1" "$4" "$5" >> "$work/all.tsv" << 'PYTHON'
import json, sys
run = json.load(open(sys.argv[1]))
print(*sys.argv[2:], run["items_per_cpu_second"], run["resident_bytes"],
      run["rejected_items"] + run["failed"], run["retryable"], sep="\t")
PYTHON
}

machine
for _ in $(seq "$rounds"); do
  for signal in metrics traces; do
    measure rotel "$theirs" "$their_grpc" "$signal" grpc
    measure tidewatch "$ours" "$grpc" "$signal" grpc
    measure rotel "$theirs" "$their_http" "$signal" http
    measure tidewatch "$ours" "$http" "$signal" http
  done
done

python3 - "$work/all.tsv" << 'PYTHON'
import statistics, sys
runs = {}
for line in open(sys.argv[1]):
    name, signal, transport, *numbers = line.rstrip("\n").split("\t")
    runs.setdefault((signal, transport), {}).setdefault(name, []).append([float(n) for n in numbers])
print("| items per CPU-second | rotel 0.0.1a15, receive and discard | Tidewatch, built-in rules | ratio | resident MiB | rejected or failed | asked to try again |")
print("|---|---|---|---|---|---|---|")
rate = {}
for (signal, transport), both in runs.items():
    median = {name: statistics.median(run[0] for run in all) for name, all in both.items()}
    rate[signal, transport] = median["tidewatch"]
    ratio = statistics.median(b[0] / a[0] for a, b in zip(both["rotel"], both["tidewatch"]))
    ours = both["tidewatch"]
    print(f"| {signal}, {transport} | {median['rotel']:,.0f} | {median['tidewatch']:,.0f} | {ratio:.2f} "
          f"| {max(run[1] for run in ours) / 2**20:.0f} | {sum(run[2] for run in ours):.0f} | {sum(run[3] for run in ours):.0f} |")
print("\nHTTP beside gRPC: " + ", ".join(
    f"{signal} {rate[signal, 'http'] / rate[signal, 'grpc'] - 1:+.0%}" for signal in ("metrics", "traces")))
PYTHON
