#!/usr/bin/env python3
"""The house rules that a program can check.

usage: lint.py [CHECK...]        all checks without arguments; "tidy" (slow) only when named
"""
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
C_FOLDERS = ("include", "src", "cli", "python", "tests", "examples", "bench", "fuzz")
TEXT_FOLDERS = C_FOLDERS + ("scripts", "docs", "data", "models", ".ci")
TEXT_ENDINGS = (".c", ".h", ".in", ".py", ".sh", ".md", ".build", ".txt")
MAX_FILE, MAX_MEDIAN, MAX_FUNCTION, MAX_PUBLIC_HEADER, MAX_VOCABULARY = 800, 200, 120, 400, 50

# Who may include whom, besides its own folder.
MAY_INCLUDE = {
    "base": (),
    "kernel": ("base",),
    "ops": ("kernel", "base"),
    "nn": ("ops", "kernel", "base"),
    "model": ("nn", "ops", "kernel", "base", "text", "io"),
    "infer": ("model", "nn", "ops", "kernel", "base", "text", "io"),
    "train": ("infer", "model", "nn", "ops", "kernel", "base", "text", "io"),
    "text": ("base",),
    "io": ("base",),
    "viz": ("io", "base"),
}
OUTSIDE = ("cli", "python", "examples", "bench")  # these see include/attn only
BANNED = re.compile(r"(?<![\w.>])(strcpy|strcat|sprintf|vsprintf|gets|strtok|exit|_exit|abort|printf|vprintf|puts|putchar|"
                    r"perror|atoi|atol|atof|system|rand|srand|alloca|setlocale|putenv|setenv|localtime|gmtime)\s*\(")
MEMORY = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|free|strdup|strndup|asprintf|vasprintf|getline|aligned_alloc|"
                    r"posix_memalign)\s*\(")
STREAM = re.compile(r"\b(stdout|stderr)\b")

problems = []


def report(path, line, text):
    problems.append(f"{os.path.relpath(path, ROOT)}{f':{line}' if line else ''}: {text}")


def files_in(folders, endings):
    for folder in folders:
        for where, inside, names in os.walk(os.path.join(ROOT, folder)):
            inside[:] = sorted(name for name in inside if not name.startswith((".", "__")))
            for name in sorted(names):
                if name.endswith(endings):
                    yield os.path.join(where, name)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def without_comments(text, strings=True):
    """The same lines, with comments (and what is inside strings) replaced by spaces."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

    def blank(match):
        found = match.group(0)
        if found[0] in "\"'":
            return found if not strings else found[0] + " " * (len(found) - 2) + found[-1]
        return re.sub(r"[^\n]", " ", found)

    return pattern.sub(blank, text)


def folder_of(path):
    """("src", "nn") of src/nn/tape.c, ("cli", "") of cli/main.c."""
    parts = os.path.relpath(path, ROOT).split(os.sep)
    return parts[0], parts[1] if parts[0] == "src" and len(parts) > 2 else ""


def check_includes():
    include = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.M)
    for path in files_in(("src",) + OUTSIDE, (".c", ".h")):
        top, folder = folder_of(path)
        text = without_comments(read(path), strings=False)
        for match in include.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            quoted, angled = match.groups()
            if angled:
                if top == "src" and folder != "viz" and angled == "attn/viz.h":
                    report(path, line, "nothing in src/ uses viz")
                continue
            beside = os.path.normpath(os.path.join(os.path.dirname(path), quoted))
            in_folder = os.path.join(ROOT, top, folder, quoted)
            if os.path.exists(beside) or os.path.exists(in_folder):
                target = beside if os.path.exists(beside) else in_folder
                other_top, other = folder_of(target)
                if (other_top, other) == (top, folder):
                    continue
            else:
                other_top, other = "src", quoted.split("/")[0]
            if top != "src":
                if other_top == "src" and other in MAY_INCLUDE:
                    report(path, line, f"{top} may include <attn/…> only, found \"{quoted}\"")
            elif folder not in MAY_INCLUDE:
                report(path, line, f"src/{folder} is in no rule")
            elif other in MAY_INCLUDE and other != folder and other not in MAY_INCLUDE[folder]:
                allowed = ", ".join(MAY_INCLUDE[folder]) or "nothing"
                report(path, line, f"{folder} may include {allowed}; found \"{quoted}\"")


def function_lengths(text):
    """(first line, lines, header) of each function in clang-formatted code."""
    header, start, body = "", 0, False
    for number, line in enumerate(text.split("\n"), 1):
        if body:
            if line.startswith("}"):
                if "(" in header and "=" not in header.split("(")[0]:
                    yield start, number - start + 1, header
                body = False
            continue
        if line and not line[0].isspace() and line[0] not in "#}":
            header, start = line, number
        if line.rstrip().endswith("{") and header and not line.startswith("#") and not header.startswith('extern "C"'):
            body = True


def check_lengths():
    lengths = [read(path).count("\n") for path in files_in(("src",), (".c", ".h"))]
    if lengths and statistics.median(lengths) > MAX_MEDIAN:
        report(os.path.join(ROOT, "src"), 0, f"the median file has {statistics.median(lengths):g} lines, at most {MAX_MEDIAN}")
    for path in files_in(("src", "include", "cli"), (".c", ".h")):
        text = read(path)
        lines = text.count("\n")
        limit = MAX_PUBLIC_HEADER if os.sep + "include" + os.sep in path else MAX_FILE
        if lines > limit:
            report(path, 0, f"{lines} lines, at most {limit}")
        for first, length, header in function_lengths(without_comments(text)):
            if length > MAX_FUNCTION:
                report(path, first, f"a function of {length} lines, at most {MAX_FUNCTION}: {header.strip()[:60]}")


def check_banned():
    for path in files_in(("src",), (".c", ".h")):
        for number, line in enumerate(without_comments(read(path)).split("\n"), 1):
            for match in BANNED.finditer(line):
                report(path, number, f"{match.group(1)} is not used in the library")
            for match in STREAM.finditer(line):
                report(path, number, f"the library does not write to {match.group(1)}")
            if not path.endswith(os.path.join("base", "alloc.c")):
                for match in MEMORY.finditer(line):
                    report(path, number, f"{match.group(1)}: memory comes from attn_alloc")


def check_space():
    paths = list(files_in(TEXT_FOLDERS, TEXT_ENDINGS))
    paths += [os.path.join(ROOT, name) for name in ("run", "meson.build", "meson_options.txt", "README.md", "CONTRIBUTING.md",
                                                    "CHANGELOG.md", "LICENSE", ".clang-tidy", ".clang-format")]
    for path in paths:
        if not os.path.exists(path) or os.path.join("tests", "golden") in path:
            continue
        try:
            text = read(path)
        except UnicodeDecodeError:
            continue
        code = path.endswith((".c", ".h", ".py", ".build", "run"))
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip() and (code or path.endswith((".sh", ".md"))):
                report(path, number, "white space at the end of the line")
            if code and "\t" in line:
                report(path, number, "a tab")
        if code and text and not text.endswith("\n"):
            report(path, 0, "no line end at the end of the file")


def check_headers():
    """Each public header compiles alone, in C and in C++."""
    for path in files_in(("include",), (".h",)):
        name = os.path.relpath(path, os.path.join(ROOT, "include"))
        for compiler, language, standard in (("cc", "c", "-std=c17"), ("c++", "c++", "-std=c++11")):
            if not shutil.which(compiler):
                continue
            with tempfile.TemporaryDirectory() as folder:
                source = os.path.join(folder, "alone." + ("c" if language == "c" else "cc"))
                with open(source, "w", encoding="ascii") as file:
                    file.write(f"#include <{name}>\n#include <{name}>\n")
                done = subprocess.run([compiler, standard, "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only",
                                       "-I" + os.path.join(ROOT, "include"), source], stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, check=False)
                if done.returncode:
                    report(path, 0, f"does not compile alone in {language}:\n" + done.stdout.decode("utf-8", "replace"))


def public_functions(text):
    """(line, name, whether a comment belongs to it) of each public function of a header: one in its paragraph before it, or
    on its lines. A heading of a section is none."""
    commented = inside = False
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() and not inside:
            commented = False
        if "/*" in line and not line.startswith("/* ----"):
            commented = True
        inside = inside and "*/" not in line or "*/" not in line[line.rfind("/*"):] and "/*" in line
        match = re.match(r"ATTN_API\b.*?\b(attn_\w+)\s*\(", line)
        if match:
            rest = text.split("\n", number - 1)[-1]
            yield number, match.group(1), commented or "/*" in rest[:rest.find("\n", rest.find(";"))]


def check_public():
    """Every public function has a comment, and is named in some test or in the program."""
    used = set()
    for path in files_in(("tests", "cli"), (".c", ".h")):
        used.update(re.findall(r"\battn_\w+", without_comments(read(path))))
    for path in files_in(("include",), (".h",)):
        for line, name, commented in public_functions(read(path)):
            if not commented:
                report(path, line, f"{name} has no comment")
            if name not in used:
                report(path, line, f"{name} is in no test and not in the program")


def check_vocabulary():
    """The vocabularies in src/kernel/simd and bytes define all names of their scalar.h, and few more."""
    for folder in ("simd", "bytes"):
        check_vocabulary_in(os.path.join("src", "kernel", folder))


def check_vocabulary_in(folder):
    define = re.compile(r"^(?:#define\s+|V_FN\s[\w\s*]*?\b)([vb]_\w+)\s*\(", re.M)
    names = {path: set(define.findall(without_comments(read(path)))) for path in files_in((folder,), (".h",))}
    scalar = names.get(os.path.join(ROOT, folder, "scalar.h"), set())
    for path, own in names.items():
        if len(own & scalar) > MAX_VOCABULARY:
            report(path, 0, f"{len(own & scalar)} names in the vocabulary, at most {MAX_VOCABULARY}")
        if scalar - own:
            report(path, 0, "names of scalar.h are missing: " + " ".join(sorted(scalar - own)))


def check_format():
    tool = shutil.which("clang-format")
    if not tool:
        return
    paths = list(files_in(C_FOLDERS, (".c", ".h")))
    done = subprocess.run([tool, "--dry-run", "-Werror", *paths], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    seen = set()
    for match in re.finditer(r"^(.*?):(\d+):\d+: (?:error|warning)", done.stdout.decode("utf-8", "replace"), re.M):
        if match.group(1) not in seen:
            seen.add(match.group(1))
            report(match.group(1), int(match.group(2)), "clang-format would change this file")


def check_shell():
    tool = shutil.which("shellcheck")
    if not tool:
        return
    paths = [os.path.join(ROOT, "run"), os.path.join(ROOT, ".ci", "run"), *files_in(("scripts",), (".sh",))]
    done = subprocess.run([tool, *paths], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        problems.append(done.stdout.decode("utf-8", "replace").strip())


def check_scripts():
    """A document may name a script as a command."""
    for path in files_in(("scripts", "bench", "tests"), (".py", ".sh")):
        if read(path).startswith("#!") != os.access(path, os.X_OK):
            report(path, 0, "begins with #! or is executable, not both")


def check_tidy():
    tool = shutil.which("clang-tidy")
    database = os.environ.get("ATTN_BUILD", os.path.join(ROOT, "build"))
    if not tool or not os.path.exists(os.path.join(database, "compile_commands.json")):
        return
    for path in files_in(("src", "cli"), (".c",)):
        done = subprocess.run([tool, "--quiet", "-p", database, path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              check=False)
        text = done.stdout.decode("utf-8", "replace").strip()
        if text:
            problems.append(text)


CHECKS = {"includes": check_includes, "lengths": check_lengths, "banned": check_banned, "space": check_space,
          "headers": check_headers, "public": check_public, "vocabulary": check_vocabulary, "format": check_format, "shell": check_shell,
          "scripts": check_scripts, "tidy": check_tidy}


def main():
    wanted = sys.argv[1:] or [name for name in CHECKS if name != "tidy"]
    for name in wanted:
        if name not in CHECKS:
            print(f"lint: no check \"{name}\"; there are {', '.join(CHECKS)}", file=sys.stderr)
            return 2
        CHECKS[name]()
    for problem in problems:
        print(problem)
    print(f"lint: {len(problems)} problem{'' if len(problems) == 1 else 's'} ({', '.join(wanted)})")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
