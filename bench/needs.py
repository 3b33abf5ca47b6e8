"""What a benchmark needs and does not find is one line, with what to do about it.

    needs.packages("torch")
    import torch
    …
    Popen([needs.program(args.build, "bench/train_step")])
"""
import importlib.util
import os
import sys


def packages(*names):
    missing = [name for name in names if not importlib.util.find_spec(name)]
    if missing:
        sys.exit(f"{os.path.basename(sys.argv[0])}: missing: {' '.join(missing)}; "
                 f"{sys.executable} -m pip install {' '.join(missing)}, or another Python that has it")


def program(build, name):
    path = os.path.join(build, name)
    if not os.path.exists(path):
        sys.exit(f"{path} is not there; ./run build {name} makes it")
    return path
