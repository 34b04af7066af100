#!/usr/bin/env bash
# Tidewatch with its built-in rules beside rotel 0.0.1a15 that receives and throws away, on the same
# bytes, in turns. Prints a table in Markdown: medians over the rounds, and their ratio.
#
#   benches/peer.sh [ROUNDS] [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5} seconds=${2:-8}
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet rotel==0.0.1a15
rotel=$(find "$work/venv" -name rotel-agent -type f)
cargo build --release --quiet --bin tidewatch --example load
target=${CARGO_TARGET_DIR:-target}/release

cat > "$work/tidewatch.yaml" <<YAML
otlp: {grpc: "127.0.0.1:24317", http: "127.0.0.1:24318"}
http: {listen: "127.0.0.1:29517"}
storage: {path: "$work/data"}
YAML
"$target/tidewatch" run --config "$work/tidewatch.yaml" > "$work/tidewatch.log" 2>&1 &
ours=$!
pids+=("$ours")
"$rotel" start --exporter blackhole --pid-file "$work/rotel.pid" --log-file "$work/rotel.out" \
  --otlp-grpc-endpoint 127.0.0.1:14317 --otlp-http-endpoint 127.0.0.1:14318 \
  > "$work/rotel.log" 2>&1 &
theirs=$!
pids+=("$theirs")
for port in 24317 24318 14317 14318; do
  for _ in $(seq 100); do
    (exec 3<> "/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.1
  done
done

measure() { # name, pid, port, signal, transport
  "$target/examples/load" --json --pid "$2" --signal "$4" --transport "$5" \
    --endpoint "http://127.0.0.1:$3" --seconds "$seconds" > "$work/one.json"
  python3 - "$work/one.json" "$1" "$4" "$5" >> "$work/all.tsv" <<'PYTHON'
import json, sys
run = json.load(open(sys.argv[1]))
print(*sys.argv[2:], run["items_per_cpu_second"], run["resident_bytes"], run["rejected_items"], sep="\t")
PYTHON
}

for _ in $(seq "$rounds"); do
  for signal in metrics traces; do
    for transport in grpc http; do
      grpc=$([ "$transport" = grpc ] && echo 7 || echo 8)
      measure rotel "$theirs" "1431$grpc" "$signal" "$transport"
      measure tidewatch "$ours" "2431$grpc" "$signal" "$transport"
    done
  done
done

python3 - "$work/all.tsv" <<'PYTHON'
import statistics, sys
runs = {}
for line in open(sys.argv[1]):
    name, signal, transport, rate, resident, rejected = line.rstrip("\n").split("\t")
    runs.setdefault((signal, transport), {}).setdefault(name, []).append(
        (float(rate), int(resident), int(rejected)))
print("| items per CPU-second | rotel 0.0.1a15, receive and discard | Tidewatch, built-in rules | ratio | resident MiB | rejected |")
print("|---|---|---|---|---|---|")
for (signal, transport), both in runs.items():
    median = {name: statistics.median(run[0] for run in all) for name, all in both.items()}
    ratio = statistics.median(b[0] / a[0] for a, b in zip(both["rotel"], both["tidewatch"]))
    resident = max(run[1] for run in both["tidewatch"]) / 2**20
    rejected = sum(run[2] for run in both["tidewatch"])
    print(f"| {signal}, {transport} | {median['rotel']:,.0f} | {median['tidewatch']:,.0f} | {ratio:.2f} | {resident:.0f} | {rejected} |")
PYTHON
