#!/usr/bin/env python3
"""libattn-core by itself, as an engineer would embed it: installed below a temporary prefix, found by pkg-config, linked by cc.

usage: core_alone.py BUILD SOURCE

The installed attn finds the models that ship. The program may need nothing but libc, libm and threads besides the library, and so may the library; its stripped size is
below 2 MB. Exit status 77 where a tool is missing or the build has sanitizers.
"""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

MOST_BYTES = 2_000_000
ALLOWED = re.compile(r"lib(c|m|pthread|attn-core)\.so(\.\d+)*|ld-linux[\w.-]*|linux-vdso\.so\.1|libc\.musl[\w.-]*")


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def needed(path):
    return re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", path, env=dict(os.environ, LC_ALL="C")))


def only_allowed(what, names):
    others = [name for name in names if not ALLOWED.fullmatch(os.path.basename(name))]
    if others:
        sys.exit(f"{what} needs {', '.join(others)}, expected libc, libm and threads alone")


def main():
    build, source = sys.argv[1:]
    for tool in ("meson", "cc", "pkg-config", "readelf", "ldd", "strip"):
        if not shutil.which(tool):
            skip(f"there is no {tool}")
    options = json.loads(run("meson", "introspect", "--buildoptions", build))
    if {option["name"]: option["value"] for option in options}.get("b_sanitize") not in ("none", [], None):
        skip("a library with sanitizers needs their runtime")
    with tempfile.TemporaryDirectory() as folder:
        run("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", folder)
        found = glob.glob(os.path.join(folder, "**", "attn-core.pc"), recursive=True)
        if len(found) != 1:
            sys.exit(f"attn-core.pc was installed {len(found)} times, expected once")
        with open(found[0], encoding="utf-8") as file:
            prefix = folder + re.search(r"^prefix=(.*)$", file.read(), re.M).group(1)
        environment = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(found[0]))
        package = ["pkg-config", f"--define-variable=prefix={prefix}"]
        flags = run(*package, "--cflags", "--libs", "attn-core", env=environment).split()
        libraries = run(*package, "--variable=libdir", "attn-core", env=environment).strip()
        program = os.path.join(folder, "program")
        run("cc", "-std=c17", "-Wall", "-Wextra", "-Werror", source, *flags, "-o", program)
        environment = dict(os.environ, LD_LIBRARY_PATH=libraries)
        print(run(program, env=environment).strip())

        attn = os.path.join(prefix, "bin", "attn")
        if os.path.exists(attn):
            alone = {name: value for name, value in environment.items() if name != "ATTN_SHARE"}
            print(run(attn, "translate", "-q", "Das ist gut.", env=alone, cwd=folder).strip())
            run(attn, "train", "-q", "--sample", "--steps", "1", "--limit", "50", "-o", os.path.join(folder, "out"), env=alone)

        library = os.path.join(libraries, "libattn-core.so")
        only_allowed("the program", needed(program))
        only_allowed("libattn-core.so", needed(library))
        loaded = [line.split()[0] for line in run("ldd", program, env=environment).splitlines() if line.strip()]
        only_allowed("the running program", loaded)
        stripped = os.path.join(folder, "stripped")
        run("strip", "-o", stripped, library)
        size = os.path.getsize(stripped)
        print(f"needs {', '.join(sorted({os.path.basename(name) for name in loaded}))}; stripped core: {size} bytes")
        if size >= MOST_BYTES:
            sys.exit(f"the stripped core has {size} bytes, expected less than {MOST_BYTES}")


if __name__ == "__main__":
    main()
