#!/usr/bin/env python3
"""The script ./run, with a program in the build folder that prints how it was called.

usage: front_door.py SOURCE
"""
import os
import shutil
import subprocess
import sys
import tempfile

OWN = ("test", "lint", "build", "wheel", "bench", "promises", "fuzz", "docs")


def main():
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(os.path.realpath(folder), "source")
        os.makedirs(os.path.join(source, "build"))
        script = shutil.copy(os.path.join(sys.argv[1], "run"), source)
        program = os.path.join(source, "build/attn")
        with open(program, "w", encoding="utf-8") as file:
            file.write('#!/bin/sh\necho "$ATTN_SHARE: $*"\n')
        os.chmod(program, 0o755)
        os.makedirs(os.path.join(folder, "bin"))
        os.symlink("../source/run", os.path.join(folder, "bin/first"))
        os.symlink(os.path.join(folder, "bin/first"), os.path.join(folder, "bin/second"))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ATTN_")}

        def run(*command, code=0, where=source):
            done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == code, (command, done)
            return done.stdout if code == 0 else done.stderr

        called = f"{source}: translate a  b\n"
        assert run(script, "translate", "a  b") == called
        assert run("./run", "translate", "a  b") == called
        for link in ("first", "second"):
            assert run(os.path.join(folder, "bin", link), "translate", "a  b", where="/") == called
        assert run(script, "help", "train") == f"{source}: help train\n"
        for word in ("help", "-h", "--help"):
            page = run(script, word)
            assert page.startswith(f"{source}: {word}\n"), page
            for command in OWN:
                assert f"\n  ./run {command} " in page, (command, page)
        for command in OWN:
            if command != "bench":  # it has a page of its own
                assert run(script, command, "--help") == run(script, "test", "-h")
        assert "unknown argument --fast" in run(script, "test", "--fast", code=2)
        assert "unknown argument x" in run(script, "wheel", "x", code=2)


main()
