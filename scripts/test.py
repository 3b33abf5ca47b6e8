#!/usr/bin/env python3
"""Runs every test of the given build folders and counts test cases, not programs.

usage: test.py [--quick] [--python=INTERPRETER] BUILD...

The programs come from meson's own list. Cases come from the XML that cmocka writes; a program without cmocka is one case
(exit status 77: skipped). The files of PYTHON_TESTS are run by pytest on the package in the first build folder; without
an interpreter each of them counts as skipped. A crash or a timeout is a failed case. The last line is
"N passed, N failed[, N skipped]".
"""
import concurrent.futures
import glob
import html
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CASE = re.compile(r'<testcase name="([^"]*)" time="[^"]*"\s*>(.*?)</testcase>', re.S)
FAILURE = re.compile(r"<failure>(?:<!\[CDATA\[)?(.*?)(?:\]\]>)?\s*</failure>", re.S)
QUICK_TIMEOUT, PYTHON_TIMEOUT = 60, 600
PYTHON_TESTS = ("tests/python/test_*.py", "tests/conformance/test_*.py")


class Result:
    """What one program's cases came to; failures are (case, text)."""

    def __init__(self):
        self.passed, self.skipped, self.failures = 0, 0, []

    def fail(self, case, text):
        self.failures.append((case, text.strip()))


def status_text(code):
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def count_cases(result, output, code):
    """Sorts a program's output into result."""
    cases = CASE.findall(output)
    for name, body in cases:
        failure = FAILURE.search(body)
        if failure:
            result.fail(name, html.unescape(failure.group(1)))
        elif "<skipped" in body:
            result.skipped += 1
        elif "<error" in body:
            result.fail(name, body)
        else:
            result.passed += 1
    if not cases and code == 0:
        result.passed += 1
    elif not cases and code == 77:
        result.skipped += 1
    elif code != 0 and not result.failures:
        result.fail("(program)", f"{status_text(code)}\n{output[-8000:]}")


def run_program(command, environment, timeout, count=count_cases):
    result = Result()
    env = dict(os.environ, **environment, CMOCKA_MESSAGE_OUTPUT="xml")
    env.pop("CMOCKA_XML_FILE", None)
    for name in ("ATTN_NUM_THREADS", "ATTN_CPU"):
        env.pop(name, None)
    # gcc before 14 misaligns 64-byte vectors in the fake stacks of use-after-return (gcc bug 110027)
    env.setdefault("ASAN_OPTIONS", "allocator_may_return_null=1:detect_stack_use_after_return=0")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    # A session of its own, so that a timeout also ends what the program started.
    process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=timeout)
        count(result, output.decode("utf-8", "replace"), process.returncode)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        result.fail("(program)", f"no end after {timeout} s\n{output.decode('utf-8', 'replace')[-4000:]}")
    return result


def run_python(python, path, build, quick):
    """One file of Python tests; pytest says what became of each case in XML."""
    if not python:
        result = Result()
        result.skipped = 1
        return result
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "cases.xml")

        def count(result, output, code):
            if not os.path.exists(report) or code not in (0, 1, 5):
                return result.fail("(pytest)", f"{status_text(code)}\n{output[-8000:]}")
            for case in xml.etree.ElementTree.parse(report).iter("testcase"):
                bad = [child for child in case if child.tag in ("failure", "error")]
                if bad:
                    result.fail(case.get("name"), bad[0].text or "")
                elif case.find("skipped") is not None:
                    result.skipped += 1
                else:
                    result.passed += 1
            return None

        command = [python, "-m", "pytest", "-q", "--tb=short", "--junitxml=" + report, "--rootdir=" + ROOT, path]
        environment = {"PYTHONPATH": os.path.join(os.path.abspath(build), "python"), "PYTHONDONTWRITEBYTECODE": "1"}
        return run_program(command + (["-m", "not slow"] if quick else []), environment,
                           QUICK_TIMEOUT if quick else PYTHON_TIMEOUT, count)


def programs_of(build, quick):
    listing = subprocess.run(["meson", "introspect", "--tests", build], check=True, stdout=subprocess.PIPE).stdout
    label = " (sanitizers)" if build.rstrip("/").endswith("-asan") else ""
    for test in json.loads(listing):
        if quick and any(suite.split(":")[-1] == "slow" for suite in test["suite"]):
            continue
        timeout = min(test["timeout"], QUICK_TIMEOUT) if quick else test["timeout"] * (4 if label else 1)
        environment = test["env"] if isinstance(test["env"], dict) else {}
        yield test["name"] + label, test["cmd"], environment, timeout


def check_exports(build):
    """Shared libraries export what the public headers declare, and nothing else; Python's extension its beginning alone."""
    result = Result()
    declared = set()
    for name in os.listdir(os.path.join(ROOT, "include", "attn")):
        with open(os.path.join(ROOT, "include", "attn", name), encoding="utf-8") as file:
            declared.update(re.findall(r"\b(attn_\w+)\s*\(", file.read()))
    for name in ("src/libattn.so", "src/libattn-core.so", "python/attn/_attn.abi3.so"):
        path = os.path.join(build, name)
        if not os.path.exists(path):
            continue
        listing = subprocess.run(["nm", "-D", "--defined-only", path], stdout=subprocess.PIPE, check=True).stdout
        exported = {line.split()[-1].split("@")[0] for line in listing.decode().splitlines() if line}
        private = sorted(exported - ({"PyInit__attn"} if name.startswith("python") else declared))
        if private:
            result.fail(name, "exported, and in no public header: " + " ".join(private))
        else:
            result.passed += 1
    return result


def main():
    arguments = sys.argv[1:]
    quick = "--quick" in arguments
    python = next((argument.partition("=")[2] for argument in arguments if argument.startswith("--python=")), "")
    builds = [argument for argument in arguments if not argument.startswith("--")]
    started = time.monotonic()
    jobs = [("includes", lambda: run_program([sys.executable, os.path.join(ROOT, "scripts", "lint.py"), "includes"], {}, 60)),
            ("exports", lambda: check_exports(builds[0]))]
    for build in builds:
        for name, command, environment, timeout in programs_of(build, quick):
            jobs.append((name, lambda c=command, e=environment, t=timeout: run_program(c, e, t)))
    for pattern in PYTHON_TESTS:
        for path in sorted(glob.glob(os.path.join(ROOT, pattern))):
            jobs.append((os.path.relpath(path, ROOT), lambda p=path: run_python(python, p, builds[0], quick)))
    passed = failed = skipped = 0
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(os.sched_getaffinity(0))
                                               if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)) as pool:
        futures = [(name, pool.submit(job)) for name, job in jobs]
        for name, future in futures:
            try:
                result = future.result()
            except (OSError, subprocess.CalledProcessError) as error:
                result = Result()
                result.fail("(program)", str(error))
            passed, skipped, failed = passed + result.passed, skipped + result.skipped, failed + len(result.failures)
            for case, text in result.failures:
                print(f"FAILED {name}: {case}")
                print("    " + text.replace("\n", "\n    "), flush=True)
    print(f"{len(jobs)} programs, {time.monotonic() - started:.0f} s")
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
