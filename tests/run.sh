#!/bin/sh
# Runs all tests of the workspace. A few that failed of the programs that run real Dovecots in real time get a second
# chance, each alone, and are named at the end; docs/testing.md says why. Arguments go to the test programs.
#
# Which tests failed is read from what cargo and the test programs print. Where that does not add up, all has failed.
set -eu

CARGO=${CARGO:-cargo}
export CARGO_TERM_COLOR=never
# Only these have a second chance.
PROGRAMS=' e2e ring cli admin native health http chaos takeover dovecot_service '
# More failures are no accident.
MOST=3

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# In POSIX sh a pipe has the status of its last program.
{
    status=0
    $CARGO test --workspace --no-fail-fast -- "$@" 2>&1 || status=$?
    echo "$status" > "$dir/status"
} | tee "$dir/said"
read -r status < "$dir/status"
[ "$status" -ne 0 ] || exit 0

# A line "program test" for each test that failed. Exit status 1: there is more that failed.
sums=0
awk -v list="$dir/failed" '
    BEGIN { printf "" > list }
    $1 == "Running" || $1 == "Doc-tests" {
        program = $NF
        sub(/^.*\//, "", program)
        sub(/-[0-9a-f]+\)$/, "", program)
        if ($1 == "Doc-tests") program = "doc-tests"
        count = 0
    }
    # Twice for each program: before what the failed tests said, and before their names.
    /^failures:$/ { count = 0; next }
    /^    [^ ]/ { names[count++] = substr($0, 5); next }
    /^test result: FAILED/ {
        failed = 0
        for (at = 1; at < NF; at++) if ($(at + 1) == "failed;") failed = $at
        if (failed != count) wrong = 1
        for (at = 0; at < count; at++) print program, names[at] > list
        targets++
        count = 0
    }
    /^error: [0-9]+ targets? failed:$/ { said = $2 }
    END { exit !(targets > 0 && targets == said && !wrong) }
' "$dir/said" || sums=1

again=yes
[ "$sums" -eq 0 ] && [ "$(wc -l < "$dir/failed")" -le "$MOST" ] || again=no
while read -r program name; do
    case $PROGRAMS in *" $program "*) ;; *) again=no ;; esac
done < "$dir/failed"

touch "$dir/flaky"
if [ "$again" = yes ]; then
    while read -r program name; do
        echo
        echo "$program $name failed, and is run again alone:"
        if $CARGO test --test "$program" "$name" -- --exact --test-threads=1 < /dev/null > "$dir/alone" 2>&1 &&
            grep -q '^test result: ok\. 1 passed;' "$dir/alone"; then
            echo "$program $name" >> "$dir/flaky"
        else
            again=no
        fi
        cat "$dir/alone"
    done < "$dir/failed"
fi

echo
if [ "$again" = yes ]; then
    sed 's/^/FLAKY: passed only on the second run: /' "$dir/flaky"
    exit 0
fi
echo "FAILED:"
grep -vxFf "$dir/flaky" "$dir/failed" | sed 's/^/    /' || true
sed 's/^/    /;s/$/ (on the first run only)/' "$dir/flaky"
[ "$sums" -eq 0 ] || echo "    and more than these tests: see what cargo says above"
exit 1
