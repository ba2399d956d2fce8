#!/bin/sh
# Runs every test of the workspace and closes with the count; what failed is told once more there, where it is found.
set -u

cd "$(dirname "$0")/.."
log=target/test.log
mkdir -p target
{
    RUST_LIB_BACKTRACE=0 "${CARGO:-cargo}" test --workspace --no-fail-fast 2>&1
    echo "$?" > "$log.status"
} | tee "$log"
status=$(cat "$log.status")
rm -f "$log.status"

if [ "$status" -ne 0 ]; then
    echo
    echo 'What failed:'
    grep -E '^error(\[|:)|^test .* FAILED$' "$log"
    echo
    # Each panic with the two lines that say why.
    grep -E -A 2 "panicked at|^Error: " "$log"
    echo
fi
awk '/^test result: / { passed += $4; failed += $6 } END { printf "%d passed, %d failed\n", passed, failed }' "$log"
exit "$status"
