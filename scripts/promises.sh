#!/bin/sh
# The long proofs of what the documents promise.
#   ./run promises [MINUTES]       of fuzzing, all targets together; 16
# Kill loops and other slow tests go round ATTN_TEST_ROUNDS (10) times as often as in ./run test. The comparisons with
# the packages tokenizers and sacrebleu need a Python that has them: $ATTN_PEERS_PYTHON, or out/peers/bin/python, or python3;
# without one they are skipped and said so. The last line is "N passed, N failed[, N skipped]".
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
build=${ATTN_BUILD:-$root/build}
minutes=${1:-16}
rounds=${ATTN_TEST_ROUNDS:-10}
log=$build/promises.log
passed=0
failed=0
skipped=0

say() { printf 'attn: %s\n' "$*" >&2; }
case $minutes in '' | *[!0-9]*) say "promises: found \"$minutes\" minutes, expected a whole number" && exit 2 ;; esac
ninja=ninja
command -v ninja >/dev/null 2>&1 || ninja=ninja-build

# Runs one proof with its output in the log; what fails is shown.
prove() { # name, command…
    name=$1
    shift
    say "$name"
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        tail -1 "$log"
    else
        failed=$((failed + 1))
        tail -60 "$log"
        say "FAILED $name"
    fi
}

skip() {
    skipped=$((skipped + 1))
    say "skipped: $*"
}

build_in() { # folder, options…
    folder=$1
    shift
    [ -f "$folder/build.ninja" ] || meson setup "$folder" "$root" -Dtests=true "$@" || return 1
    meson configure "$folder" -Dtests=true && $ninja -C "$folder"
}

# ---- tests, more often ------------------------------------------------------------------------------

export ATTN_TEST_SOURCE="$root" ATTN_TEST_BUILD="$build"
prove "building the tests" build_in "$build"
for test in file resume; do
    prove "$test, $rounds times as many kills" env ATTN_TEST_ROUNDS="$rounds" "$build/tests/test-$test"
done
cases=$((2000 * rounds))
prove "attention, $cases random calls" env ATTN_CASES=$cases "$build/tests/test-kern-attention"
prove "attention, the same bits, $rounds times as many calls" env ATTN_TEST_ROUNDS="$rounds" \
    "$build/tests/test-kern-attention_same_bits"

# ---- threads ----------------------------------------------------------------------------------------

try=$build/try-thread
if echo 'int main(void) { return 0; }' | ${CC:-cc} -fsanitize=thread -x c - -o "$try" 2>/dev/null && "$try"; then
    prove "building the tests with the thread sanitizer" build_in "$build-tsan" -Dbuildtype=debugoptimized \
        -Doptimization=1 -Db_sanitize=thread -Db_lundef=false
    for test in base-context gemm kern-additive_attention kern-attention_same_bits grad-tape beam translate train align; do
        [ -x "$build-tsan/tests/test-$test" ] || { skip "test-$test is not there" && continue; }
        prove "$test under the thread sanitizer" env TSAN_OPTIONS="halt_on_error=1 ${TSAN_OPTIONS:-}" \
            "$build-tsan/tests/test-$test"
    done
else
    skip "the compiler has no thread sanitizer"
fi

# ---- peers ------------------------------------------------------------------------------------------

python=
for candidate in "${ATTN_PEERS_PYTHON:-}" "$root/out/peers/bin/python" python3; do
    [ -n "$candidate" ] && "$candidate" -c 'import tokenizers, sacrebleu' 2>/dev/null && python=$candidate && break
done
if [ -n "$python" ]; then
    for tokenizer in tokenizer.json tokenizer_lower.json; do
        prove "$tokenizer: the same ids as the package tokenizers" "$python" "$root/scripts/check_tokenizer.py" \
            "$build/src/libattn.so" "$root/tests/golden/$tokenizer" --strings 20000
    done
    prove "BLEU and chrF: the same as sacrebleu" "$python" "$root/scripts/check_measures.py" "$build/src/libattn.so"
else
    skip "no Python with tokenizers and sacrebleu (ATTN_PEERS_PYTHON names one)"
fi

# ---- broken input -----------------------------------------------------------------------------------

if [ "$minutes" -gt 0 ]; then
    count=$(find "$root/fuzz/seeds" -mindepth 1 -maxdepth 1 -type d | wc -l)
    prove "fuzzing, $minutes minutes" sh "$root/scripts/fuzz.sh" all $((minutes * 60 / count))
fi

echo "$passed passed, $failed failed$([ $skipped -eq 0 ] || echo ", $skipped skipped")"
[ "$failed" -eq 0 ]
