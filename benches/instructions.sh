#!/usr/bin/env bash
# Instructions an item of the hot loop, counted by callgrind: they hardly change on a busy machine, so that a
# regression shows that a clock would miss. Prints a table in Markdown; installs valgrind on Debian.
#
#   benches/instructions.sh [STAGE...]      all that run on one thread by default
set -euo pipefail
cd "$(dirname "$0")/.."
. benches/lib.sh
command -v valgrind > /dev/null || {
  as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
  as_root apt-get update -qq
  DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends valgrind > /dev/null
}
runs=20
build stages

echo "| stage | item | instructions an item |"
echo "|---|---|---|"
"$stages" --list-stages | while read -r name item; do
  # A scrape is answered by other threads.
  [ "$name" = scrape ] && continue
  if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then
    continue
  fi
  items=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect='*measured*' \
    "$stages" --count "$name" "$runs" 2> "$work/valgrind.log") || {
    tail -n 20 "$work/valgrind.log" >&2
    exit 1
  }
  awk -v name="$name" -v item="$item" -v items="$items" \
    '/Collected :/ {printf "| `%s` | %s | %.0f |\n", name, item, $4 / items}' "$work/valgrind.log"
done
