#!/bin/sh
# Fuzzes the parsers of foreign bytes: scripts/fuzz.sh [TARGET...], each target in turn for FUZZ_SECONDS (600).
#
# cargo-fuzz comes from the registry into target/tools. The instrumentation wants a nightly compiler; without one the
# stable compiler is told to act as one (RUSTC_BOOTSTRAP), which serves as well here. What is found new goes to
# target/fuzz-corpus; an input that breaks a promise is named at the end, and makes this fail.
set -eu

cd "$(dirname "$0")/.."
version=0.13.2
seconds=${FUZZ_SECONDS:-600}
tool=target/tools/bin/cargo-fuzz
[ "$#" -gt 0 ] || set -- label policy template list_ascii list_binary host certificate manifest evidence

case $("$tool" --version 2> /dev/null || true) in
*" $version") ;;
*)
    cargo install --locked --debug --force --version "$version" --root target/tools --target-dir target/tools-build cargo-fuzz
    rm -rf target/tools-build
    ;;
esac

if command -v rustup > /dev/null && rustup run nightly rustc --version > /dev/null 2>&1; then
    export RUSTUP_TOOLCHAIN=nightly
else
    export RUSTC_BOOTSTRAP=1
fi
host=$(rustc -vV | sed -n 's/^host: //p')
# Sanitizers and link-time optimisation do not go together well, and take the longer to build.
export CARGO_PROFILE_RELEASE_LTO=off

fuzz() {
    "$tool" "$1" --fuzz-dir fuzz --target-dir target/fuzz --features libfuzzer "$2"
}

for target; do
    fuzz build "$target"
    found=target/fuzz-corpus/$target
    artifacts=target/fuzz-artifacts/$target/
    mkdir -p "$found" "$artifacts"
    echo "fuzz: $target for $seconds seconds"
    # The first directory takes what is new, the others are read. An input may take 10 seconds.
    program=target/fuzz/$host/release/$target
    kept=fuzz/corpus/$target
    [ ! -d "fuzz/regressions/$target" ] || kept="$kept fuzz/regressions/$target"
    # The word splitting is wanted: each directory is an argument.
    # shellcheck disable=SC2086
    if ! "$program" "$found" $kept -artifact_prefix="$artifacts" -max_total_time="$seconds" -timeout=10 \
        -max_len=8192 -print_final_stats=1 -verbosity=0; then
        echo "fuzz: $target has a finding in $artifacts: keep it as fuzz/regressions/$target/NAME" >&2
        exit 1
    fi
done
