#!/bin/sh
# Fuzzes every codec, two at a time: tests/fuzz/run.sh [SECONDS each, default 60] [TARGET...]
#
# Works with the stable toolchain: RUSTC_BOOTSTRAP lets it take the flags that make the compiler
# instrument the code. What a run finds interesting stays in tests/fuzz/corpus (not committed) for
# the next one; what it finds broken lies in tests/fuzz/artifacts, and the exit status is 1.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}
[ $# -eq 0 ] || shift
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked

# An instrumented build in the usual place would evict the ordinary one.
unset CARGO_TARGET_DIR
export RUSTC_BOOTSTRAP=1
sanitizer=${SANITIZER:-address}
cargo fuzz build --fuzz-dir . --sanitizer "$sanitizer"

one() {
    mkdir -p "corpus/$1"
    log=corpus/$1.log
    if cargo fuzz run --fuzz-dir . --sanitizer "$sanitizer" "$1" "corpus/$1" "seeds/$1" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 >"$log" 2>&1; then
        echo "$1: $(grep '^Done' "$log")"
    else
        echo "$1: FAILED"
        tail -n 40 "$log"
        return 1
    fi
}

[ $# -gt 0 ] || set -- $(cargo fuzz list --fuzz-dir .)
failed=0
while [ $# -gt 0 ]; do
    one "$1" &
    first=$!
    second=
    if [ $# -gt 1 ]; then
        one "$2" &
        second=$!
        shift
    fi
    shift
    wait "$first" || failed=1
    [ -z "$second" ] || wait "$second" || failed=1
done
exit $failed
