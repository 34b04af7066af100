#!/usr/bin/env bash
# Z-scores of 10,000 series over an hour at 15 seconds: CPU time of an evaluation by Prometheus' recording
# rules, beside our windows, statistics and detection alone. Ingestion is left out on both sides. Prints a
# table in Markdown; installs Debian's prometheus if there is none.
#
#   benches/zscore.sh [EVALUATIONS]      8 by default, one each 10 seconds
set -euo pipefail
cd "$(dirname "$0")/.."
. benches/lib.sh
evaluations=${1:-8}
build stages
command -v prometheus > /dev/null || {
  as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
  as_root apt-get update -qq
  DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends prometheus > /dev/null
}
machine

port=$(free_port)
mkdir "$work/prometheus"
cat > "$work/prometheus.yml" << 'YAML'
global: {evaluation_interval: 10s}
YAML
cp "$work/prometheus.yml" "$work/with-rules.yml"
echo 'rule_files: [rules.yml]' >> "$work/with-rules.yml"
cat > "$work/rules.yml" << 'YAML'
groups:
  - name: zscores
    rules:
      - {record: "bench_value:avg", expr: "avg_over_time(bench_value[1h])"}
      - {record: "bench_value:stddev", expr: "stddev_over_time(bench_value[1h])"}
      - {record: "bench_value:zscore", expr: "(bench_value - bench_value:avg) / bench_value:stddev"}
YAML
prometheus --config.file "$work/prometheus.yml" --storage.tsdb.path "$work/prometheus" \
  --web.listen-address "127.0.0.1:$port" --web.enable-lifecycle --web.enable-remote-write-receiver \
  > "$work/prometheus.log" 2>&1 &
peer=$!
pids+=("$peer")
until curl --silent --fail "http://127.0.0.1:$port/-/ready" > /dev/null; do
  kill -0 "$peer"
  sleep 0.1
done

# The hour until now, as a client would have written it: all series, sample by sample.
python3 - "http://127.0.0.1:$port/api/v1/write" << 'PYTHON'
import random, struct, sys, time, urllib.request
SERIES, SAMPLES, STEP, AT_ONCE, SLICE = 10_000, 242, 15_000, 500, 22

def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)

def field(number, body):
    return varint(number << 3 | 2) + varint(len(body)) + body

def label(name, value):
    return field(1, field(1, name.encode()) + field(2, value.encode()))

def snappy(body):  # literals only
    out = [varint(len(body))]
    for at in range(0, len(body), 65536):
        part = body[at:at + 65536]
        out.append(bytes([61 << 2]) + struct.pack("<H", len(part) - 1) + part)
    return b"".join(out)

random.seed(1)
names = [label("__name__", "bench_value") + label("instance", f"instance-{n:05}") for n in range(SERIES)]
end = int(time.time() * 1000)
for begin in range(0, SAMPLES, SLICE):
    times = [end - (SAMPLES - 1 - at) * STEP for at in range(begin, min(begin + SLICE, SAMPLES))]
    for first in range(0, SERIES, AT_ONCE):
        body = bytearray()
        for n in range(first, first + AT_ONCE):
            samples = b"".join(
                field(2, b"\x09" + struct.pack("<d", n + 20 + random.gauss(0, 1)) + b"\x10" + varint(at))
                for at in times)
            body += field(1, names[n] + samples)
        request = urllib.request.Request(sys.argv[1], snappy(bytes(body)), {
            "Content-Encoding": "snappy", "Content-Type": "application/x-protobuf",
            "X-Prometheus-Remote-Write-Version": "0.1.0"})
        urllib.request.urlopen(request).read()
PYTHON

# Without rules, for what it does besides.
sleep 5
before=$(cpu "$peer")
sleep 10
besides=$(awk -v a="$before" -v b="$(cpu "$peer")" 'BEGIN {print b - a}')

done_so_far() {
  curl --silent "http://127.0.0.1:$port/metrics" |
    awk '/^prometheus_rule_group_iterations_total\{/ {found = $2} END {print found + 0}'
}
until_more() { # than so many
  until [ "$(done_so_far)" -gt "$1" ]; do sleep 0.5; done
  # It is counted when it begins.
  sleep 3
}
cp "$work/with-rules.yml" "$work/prometheus.yml"
curl --silent --fail --request POST "http://127.0.0.1:$port/-/reload"
until_more 0
start=$(done_so_far) before=$(cpu "$peer") since=$(date +%s.%N)
until_more $((start + evaluations - 1))
count=$(($(done_so_far) - start))
theirs=$(awk -v a="$before" -v b="$(cpu "$peer")" -v count="$count" -v besides="$besides" \
  -v since="$since" -v until="$(date +%s.%N)" \
  'BEGIN {print (b - a - besides * (until - since) / 10) / count}')
curl --silent --get "http://127.0.0.1:$port/api/v1/query" --data-urlencode 'query=count(bench_value:zscore)' \
  > "$work/answer.json"
found=$(value "$work/answer.json" data result 0 value 1 2> /dev/null || echo 0)
if [ "$found" != 10000 ]; then
  echo "Prometheus made $found z-scores, and not 10000" >&2
  tail -n 5 "$work/prometheus.log" >&2
  exit 1
fi
kill "$peer"

ours=$("$stages" --table zscore_hour |
  awk -F '|' '/zscore_hour/ {print $4 * 10000 / 1e9}')
version=$(prometheus --version 2>&1 | awk 'NR == 1 {print $3}')
echo "| z-scores of 10,000 series over an hour at 15 s | CPU-seconds an evaluation |"
echo "|---|---|"
awk -v theirs="$theirs" -v ours="$ours" -v version="$version" -v count="$count" 'BEGIN {
  printf "| Prometheus %s, recording rules, mean of %d evaluations | %.3f |\n", version, count, theirs
  printf "| windows, statistics and `zscore`, median | %.6f |\n", ours
  printf "| ratio (goal: 100) | %.0f |\n", theirs / ours
}'
