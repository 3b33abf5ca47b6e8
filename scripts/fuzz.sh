#!/bin/sh
# Fuzzes what reads files, with address and undefined-behaviour sanitizers.
#   ./run fuzz                     every target, 60 seconds each
#   ./run fuzz TARGET [SECONDS]    one, or "all"
# With clang: its libFuzzer, guided by coverage; what it finds worth keeping stays in $ATTN_BUILD-fuzz/corpus. Without: the
# changes of fuzz/driver.c. An input that fails lies in $ATTN_BUILD-fuzz/found. The last line is "N passed, N failed".
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
build=${ATTN_BUILD:-$root/build}-fuzz
target=${1:-all}
seconds=${2:-60}
log=$build/fuzz.log

say() { printf 'attn: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
quietly() { "$@" >"$log" 2>&1 || { cat "$log" >&2 && die "failed: $*"; }; }

all=$(cd "$root/fuzz/seeds" && echo *)
[ "$target" != all ] || target=$all
for name in $target; do
    [ -d "$root/fuzz/seeds/$name" ] || die "fuzz: found target \"$name\", expected one of: $all"
done
case $seconds in '' | *[!0-9]*) die "fuzz: found \"$seconds\" seconds, expected a whole number" ;; esac

# ---- building ---------------------------------------------------------------------------------------

mkdir -p "$build/found"
way=driver
if command -v clang >/dev/null 2>&1; then
    echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return n && !d; }' >"$build/try.c"
    if clang -fsanitize=fuzzer,address "$build/try.c" -o "$build/try" 2>/dev/null; then way=libfuzzer; fi
fi
if [ ! -f "$build/build.ninja" ]; then
    set -- -Dfuzz=$way -Dbuildtype=debugoptimized -Doptimization=1 -Db_sanitize=address,undefined -Db_lundef=false
    if [ $way = libfuzzer ]; then
        CC=clang quietly meson setup "$build" "$root" "$@" \
            "-Dc_args=-fno-sanitize-recover=all -fsanitize=fuzzer-no-link"
    else
        quietly meson setup "$build" "$root" "$@" -Dc_args=-fno-sanitize-recover=all
    fi
fi
programs=
for name in $target; do programs="$programs fuzz/fuzz-$name"; done
ninja=ninja
command -v ninja >/dev/null 2>&1 || ninja=ninja-build
say "building the targets ($way)"
# shellcheck disable=SC2086
quietly $ninja -C "$build" $programs

# ---- running ----------------------------------------------------------------------------------------

export ASAN_OPTIONS="${ASAN_OPTIONS:-allocator_may_return_null=1:detect_stack_use_after_return=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"

run_driver() { # name
    cd "$build/found"
    end=$(($(date +%s) + seconds))
    seed=$(date +%s)
    while [ "$(date +%s)" -lt "$end" ]; do
        "$build/fuzz/fuzz-$1" -runs=5000 -seed="$seed" "$root/fuzz/seeds/$1" || {
            [ ! -f crash-input ] || mv crash-input "$1-crash"
            return 1
        }
        seed=$((seed + 1))
    done
}

run_libfuzzer() { # name
    mkdir -p "$build/corpus/$1"
    "$build/fuzz/fuzz-$1" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="$build/found/$1-" "$build/corpus/$1" "$root/fuzz/seeds/$1"
}

passed=0
failed=0
for name in $target; do
    say "$name, $seconds seconds"
    if (run_$way "$name") >"$log" 2>&1; then
        passed=$((passed + 1))
        grep -E '^stat::(number_of_executed_units|peak_rss_mb)|^#.*DONE' "$log" || true
    else
        failed=$((failed + 1))
        tail -60 "$log"
        say "FAILED $name; the input is in $build/found"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
