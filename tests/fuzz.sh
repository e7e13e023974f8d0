#!/bin/sh
# Runs every fuzz target for a bounded time and reports executions and coverage.
# Needs a nightly toolchain and cargo-fuzz (`cargo install cargo-fuzz`).
#
# Usage: tests/fuzz.sh [SECONDS_PER_TARGET] [TARGET...]
set -eu
cd "$(dirname "$0")/fuzz"
seconds=${1:-60}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- pickle session message snapshot command python_files probe
work=${CARGO_TARGET_DIR:-target}/fuzz-work
mkdir -p "$work"
work=$(cd "$work" && pwd)
python3 seed.py ../data/vectors "$work/corpus"
# The crate forbids unsafe code: the address sanitizer would only slow us down.
cargo +nightly fuzz build --fuzz-dir . --sanitizer none
failed=0
for target in "$@"; do
    mkdir -p "$work/corpus/$target" "$work/artifacts/$target"
    log=$work/$target.log
    if ! cargo +nightly fuzz run --fuzz-dir . --sanitizer none "$target" "$work/corpus/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=8192 \
        -artifact_prefix="$work/artifacts/$target/" -print_final_stats=1 >"$log" 2>&1; then
        failed=1
        echo "$target: FAILED, see $log and $work/artifacts/$target"
        continue
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    peak=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
    coverage=$(grep -o 'cov: [0-9]* ft: [0-9]* corp: [0-9]*' "$log" | tail -1)
    echo "$target: $executions executions in $seconds s, $coverage, peak $peak MB"
done
exit $failed
