# shellcheck shell=bash
# What the scripts in this directory have in common; sourced by them from the top of the repository.
#
# They build what they measure, or take what is there: TIDEWATCH=, LOAD=, LATENCY= and STAGES= are paths of
# the daemon, of the examples `load` and `latency`, and of the benchmark `stages`. Ports are free ones, data
# lies in a directory of its own, and whatever was started ends with the script.

work=$(mktemp -d)
pids=()

clean_up() {
  local pid
  for pid in "${pids[@]}"; do
    kill "$pid" 2>/dev/null || true
  done
  wait
  rm -rf "$work"
}
trap clean_up EXIT

# build NAME...: sets $tidewatch, $load, $latency and $stages. If one of those named is not given, all are
# built, at once: what is built alone is built with other features, and that takes minutes each time.
build() {
  local target=${CARGO_TARGET_DIR:-target}/release built='' name missing=''
  for name in "$@"; do
    local given=${name^^}
    [ -n "${!given:-}" ] || missing=$name
  done
  if [ -n "$missing" ]; then
    built=$(cargo build --release --quiet --bin tidewatch --example load --example latency --bench stages \
      --message-format json | python3 -c '
import json, sys
for line in sys.stdin:
    artifact = json.loads(line)
    if artifact.get("executable") and artifact["target"]["name"] == "stages":
        print(artifact["executable"])')
  fi
  tidewatch=${TIDEWATCH:-$target/tidewatch}
  # shellcheck disable=SC2034
  load=${LOAD:-$target/examples/load} latency=${LATENCY:-$target/examples/latency} stages=${STAGES:-$built}
}

# start NAME: starts a daemon with the rest of its configuration on standard input, waits until it is
# ready (with $HTTP behind its address in `http`), and sets $pid, $grpc, $http (OTLP) and $web (API) as host:port.
start() {
  local name=$1
  {
    echo 'otlp: {grpc: "127.0.0.1:0", http: "127.0.0.1:0"}'
    echo "http: {listen: \"127.0.0.1:0\"${HTTP:-}}"
    cat
  } > "$work/$name.yaml"
  start_again "$name"
}

# The same with the configuration that NAME had before.
start_again() {
  local name=$1
  rm -f "$work/$name.log"
  "$tidewatch" run --config "$work/$name.yaml" > "$work/$name.log" 2>&1 &
  pid=$!
  pids+=("$pid")
  local line=
  for _ in $(seq 3000); do
    line=$(grep -m1 'listening otlp_grpc' "$work/$name.log" 2>/dev/null || true)
    [ -n "$line" ] && break
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.02
  done
  if [ -z "$line" ]; then
    echo "the daemon does not start:" >&2
    tail -n 5 "$work/$name.log" >&2
    exit 1
  fi
  # shellcheck disable=SC2034
  if [[ $line =~ otlp_grpc=\"?([0-9.:]+).*otlp_http=\"?([0-9.:]+).*\ http=([0-9.:]+) ]]; then
    grpc=${BASH_REMATCH[1]} http=${BASH_REMATCH[2]} web=${BASH_REMATCH[3]}
  fi
  for _ in $(seq 6000); do
    curl --silent --fail --max-time 2 "http://$web/readyz" > /dev/null && return
    kill -0 "$pid"
    sleep 0.02
  done
  echo "the daemon is not ready after two minutes" >&2
  exit 1
}

# stop PID: ends one daemon in order.
stop() {
  kill "$1"
  wait "$1" 2>/dev/null || true
}

# A port that nobody listens on.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# CPU time that a process has used so far, in seconds.
cpu() {
  sed 's/.*) //' "/proc/$1/stat" | awk '{printf "%.2f", ($12 + $13) / 100}'
}

# field PID NAME: a number of /proc/PID/status in MiB.
field() {
  awk -v name="$2:" '$1 == name {printf "%.0f", $2 / 1024}' "/proc/$1/status"
}

# value FILE KEY...: a value of a JSON file, by python's str.
value() {
  python3 - "$@" << 'PYTHON'
import json, sys
found = json.load(open(sys.argv[1]))
for key in sys.argv[2:]:
    found = found[int(key) if isinstance(found, list) else key]
print(found)
PYTHON
}

# What it is measured on, in a line.
machine() {
  local model
  model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
  echo "$(nproc) cores of ${model:-an unknown processor}, Linux $(uname -r), load average $(cut -d ' ' -f 1 /proc/loadavg)"
  echo
}
