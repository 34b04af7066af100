#!/bin/sh
# The scores on the Numenta Anomaly Benchmark; see --help.
set -eu

usage() {
    cat <<'HELP'
Usage: tests/nab.sh [DIR]

Prints how the detectors score on the Numenta Anomaly Benchmark: as shipped, one set of defaults for
all series. 100 is perfect, 0 is a detector that never speaks.

DIR is a checkout of the corpus, in either layout:
  data/GROUP/NAME.csv and windows.json                   that of tests/data/nab (the default, a part)
  data/GROUP/NAME.csv and labels/combined_windows.json   that of the original

The whole corpus, 58 series, of which the README's scores are:
  git clone https://github.com/numenta/NAB && git -C NAB checkout ea702d75cc22
  tests/nab.sh NAB

Columns: NAB's three profiles (standard; low FP: false alerts cost double; low FN: missed ones cost
double), at the one threshold that is best over all series, and at 4 sigma, where rules stand.
Rows: all series, and every second of them by name: `even` is what was looked at in development,
`odd` was not.

Environment:
  TIDEWATCH   the binary to run; unset: target/release/tidewatch, built first
  DETECTORS   which ones, unset: "adaptive robust zscore"
  OUT         keep what they said here: OUT/DETECTOR/GROUP/NAME.csv; unset: a temporary folder
HELP
}

case "${1-}" in
-h | --help)
    usage
    exit 0
    ;;
esac
if [ $# -gt 1 ]; then
    usage >&2
    exit 2
fi

here=$(cd "$(dirname "$0")" && pwd)
corpus=$(cd "${1-$here/data/nab}" && pwd)
if [ -f "$corpus/windows.json" ]; then
    windows=$corpus/windows.json
elif [ -f "$corpus/labels/combined_windows.json" ]; then
    windows=$corpus/labels/combined_windows.json
else
    echo "$corpus has neither windows.json nor labels/combined_windows.json; see --help" >&2
    exit 1
fi

if [ -z "${TIDEWATCH-}" ]; then
    cargo build --release --quiet --manifest-path "$here/../Cargo.toml"
    TIDEWATCH=${CARGO_TARGET_DIR-$here/../target}/release/tidewatch
fi
tidewatch=$(cd "$(dirname "$TIDEWATCH")" && pwd)/$(basename "$TIDEWATCH")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=${OUT-$work/out}
mkdir -p "$out"
out=$(cd "$out" && pwd)
# The scorer looks beside itself for the data.
cp "$here/data/nab/score.py" "$work/score.py"
cp "$windows" "$work/windows.json"
ln -s "$corpus/data" "$work/data"

printf '%-10s %-5s  %28s  %28s\n' '' '' 'at the best threshold' 'at 4 sigma'
printf '%-10s %-5s  %10s %8s %8s  %10s %8s %8s\n' detector files standard 'low FP' 'low FN' standard 'low FP' 'low FN'
for detector in ${DETECTORS-adaptive robust zscore}; do
    mkdir -p "$out/$detector"
    # The corpus has no blanks in its names.
    (cd "$work/data" && "$tidewatch" backtest --detector "$detector" --scores "$out/$detector" */*.csv >"$work/said" 2>&1) || {
        cat "$work/said" >&2
        exit 1
    }
    for half in all even odd; do
        only=
        [ $half = all ] || only="--only $half"
        # shellcheck disable=SC2086
        python3 "$work/score.py" "$out/$detector" --fixed 0.5 $only | awk -v detector="$detector" -v half=$half '
            / at threshold / { best[++n] = $2; fixed[n] = $6 }
            END {
                printf "%-10s %-5s  %10s %8s %8s  %10s %8s %8s\n", detector, half,
                    best[1], best[2], best[3], fixed[1], fixed[2], fixed[3]
            }'
    done
done
