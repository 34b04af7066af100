#!/usr/bin/env bash
# How long from a point that breaks a rule to the webhook about it, at half of the load that the daemon takes.
# Prints tables in Markdown.
#
#   benches/latency.sh [TICKS] [SECONDS]     ticks of measurement (12), and seconds of a tick (10)
set -euo pipefail
cd "$(dirname "$0")/.."
. benches/lib.sh
ticks=${1:-12} tick=${2:-10}
build tidewatch load latency
hook=127.0.0.1:$(free_port)
# Everything that the load sends is judged as by the built-in rules.
start latency << YAML
storage: {path: "$work/data"}
window: {tick: ${tick}s}
rules:
  - {alert: Probe, match: '{metric="latency.probe"}', detector: threshold, upper: 100, for: 1 of 1}
  - {alert: Value, match: '{signal="value",metric!="latency.probe"}', min_change_ratio: 0.25}
  - {alert: Slow, match: '{signal=~"p95|p99"}', direction: above, min_change_ratio: 0.2}
route: {receiver: hook, group_by: [alertname, service], group_wait: 0s}
receivers: [{name: hook, webhook_configs: [{url: "http://$hook/", send_resolved: false}]}]
YAML

machine
"$load" --json --pid "$pid" --endpoint "http://$grpc" --seconds 5 --warm-up 5 > "$work/load.json"
half=$(value "$work/load.json" items_per_second | awk '{printf "%.0f", $1 / 2}')
echo "As fast as it goes: $((2 * half)) points a second. At half of that, with ticks of $tick seconds (goal: p99 within a tick and 100 ms):"
echo
"$latency" --endpoint "http://$grpc" --listen "$hook" --rate "$half" --tick "$tick" --ticks "$ticks"
