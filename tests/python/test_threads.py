"""Python threads, the library's threads, CPU levels, fork, the environment."""
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import attn
from others import check_others_run


@pytest.fixture(autouse=True)
def as_before():
    level = attn.cpu_level()
    yield
    attn.set_cpu_level(level)
    attn.set_num_threads(os.cpu_count() or 1)


def in_threads(n, function):
    """function(i) in n threads at once; what it raises is raised here."""
    errors, start = [], threading.Barrier(n)

    def run(i):
        try:
            start.wait()
            function(i)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_many_threads_call(rng):
    arrays = [rng.standard_normal((2, 3, n, 16), np.float32) for n in (5, 40, 90, 130)]
    expected = [attn.attention(x, x, x) for x in arrays]

    def calls(i):
        for turn in range(60):
            x = arrays[(i + turn) % 4]
            np.testing.assert_array_equal(attn.attention(x, x, x), expected[(i + turn) % 4])
            if turn % 7 == 0:
                with pytest.raises(ValueError, match=f"q has {x.shape[1]} heads, expected a multiple of k's 2"):
                    attn.attention(x, x[:, :2], x[:, :2])
            if turn % 20 == i:
                attn.set_num_threads(1 + turn % 3)

    in_threads(5, calls)


def test_others_run_meanwhile(rng):
    x = rng.standard_normal((1, 8, 3000, 64), np.float32)
    attn.attention(x[:, :, :64], x[:, :, :64], x[:, :, :64])
    check_others_run(lambda: attn.attention(x, x, x))


def test_same_bits_for_any_number_of_threads(rng):
    q = rng.standard_normal((2, 3, 200, 32), np.float32)
    results = []
    for n in (1, 2, 3, 8):
        attn.set_num_threads(n)
        results.append(attn.attention(q, q, q, causal="top-left", return_lse=True))
    for out, lse in results[1:]:
        np.testing.assert_array_equal(out, results[0][0])
        np.testing.assert_array_equal(lse, results[0][1])


def test_levels(rng):
    q = rng.standard_normal((2, 3, 50, 32), np.float32)
    expected, seen = attn.attention(q, q, q), []
    for level in ("scalar", "avx2", "avx512", "amx", "neon"):
        try:
            attn.set_cpu_level(level)
        except ValueError as error:
            assert level in str(error) and "scalar" in str(error)
            continue
        assert attn.cpu_level() == level
        seen.append(level)
        np.testing.assert_allclose(attn.attention(q, q, q), expected, rtol=1e-5, atol=1e-6)
    assert "scalar" in seen
    with pytest.raises(TypeError):
        attn.set_cpu_level(None)


@pytest.mark.parametrize("n", [0, -1, 1025, 2**40, 2**80])
def test_numbers_of_threads_that_cannot_be(n):
    with pytest.raises(ValueError, match=f"set_num_threads: n is {n}, expected 1 to 1024"):
        attn.set_num_threads(n)
    with pytest.raises(TypeError):
        attn.set_num_threads("2")


def python(code, **environment):
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True,
                          timeout=120, check=False)


def test_environment():
    code = "import attn; print(attn.cpu_level())"
    assert python(code, ATTN_CPU="scalar", ATTN_NUM_THREADS="1").stdout == "scalar\n"
    wrong = python(code, ATTN_CPU="abacus").stderr
    assert 'ValueError: ATTN_CPU is "abacus", but this machine has scalar' in wrong
    wrong = python(code, ATTN_NUM_THREADS="many").stderr
    assert 'ValueError: ATTN_NUM_THREADS is "many", expected a number from 1 to 1024' in wrong
    assert python("import attn; attn.set_cpu_level('scalar'); attn.cpu_level()", ATTN_CPU="abacus").returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_of_fork_computes(rng):
    code = """
import os, threading
import numpy as np
import attn
attn.set_num_threads(2)
x = np.random.default_rng(0).standard_normal((1, 4, 300, 32), np.float32)
expected = attn.attention(x, x, x)
stop = threading.Event()
def busy():
    while not stop.is_set():
        attn.attention(x, x, x)
thread = threading.Thread(target=busy)
thread.start()
for turn in range(10):
    child = os.fork()
    if child == 0:
        os._exit(0 if (attn.attention(x, x, x) == expected).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
thread.join()
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
