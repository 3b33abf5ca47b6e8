#!/usr/bin/env python3
"""Speed, ours and the peers', in turn in one run on this machine.

usage: ./run bench [gemm|train-step] [--threads N] [--seconds S] [--repeats N] [--install-peers]
       ./run bench attention [OPTION…]         the options of bench/attention.py: --quick, --cases PATTERN,…, -o FILE …
       ./run bench decode [OPTION…]            the options of bench/decode.py

gemm         linear layers against MKL (inside PyTorch) and OpenBLAS, with the FMA peak of the same threads
train-step   one training step of the Bahdanau translator against the same model in PyTorch
attention    the attention operator, forward and backward, against PyTorch, ONNX Runtime, OpenVINO and ggml
decode       one query over many keys, from rows, a cache, pages and bytes, against these and the roof that memory sets

Peers are used where they are found: Python packages through $ATTN_PEERS_PYTHON or the environment in out/peers, which
--install-peers makes (it downloads 400 MB, and builds ggml from source if there is a C++ compiler); OpenBLAS as the system's
libopenblas.so.0. ATTN_CPU=avx2 holds everybody to AVX2.
"""
import argparse
import glob
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("ATTN_BUILD", os.path.join(ROOT, "build"))
PEERS = os.path.join(ROOT, "out", "peers")
PACKAGES = ("torch==2.13.0", "numpy", "onnx", "onnxruntime", "openvino")
FROM_SOURCE = "llama-cpp-python"  # carries ggml


def peers_python(module="torch"):
    """A Python that has a module, or None."""
    for python in (os.environ.get("ATTN_PEERS_PYTHON"), os.path.join(PEERS, "bin", "python"), sys.executable):
        if python and os.path.exists(python):
            if subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0:
                return python
    return None


def install_peers():
    pip = os.path.join(PEERS, "bin", "pip")
    print(f"making {PEERS} with {', '.join(PACKAGES)}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", PEERS], check=True)
    subprocess.run([pip, "install", "-q", *PACKAGES], check=True)
    print(f"building {FROM_SOURCE}; this takes minutes", file=sys.stderr)
    if subprocess.run([pip, "install", "-q", FROM_SOURCE], env=dict(os.environ, CMAKE_ARGS=ggml_flags())).returncode != 0:
        print("without ggml", file=sys.stderr)


def ggml_flags():
    """ggml for this CPU's vectors. Not its native build, whose tiles crash on some machines."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = set(file.read().split())
    except OSError:
        return ""
    wanted = {"avx": "AVX", "avx2": "AVX2", "fma": "FMA", "f16c": "F16C", "bmi2": "BMI2", "avx512bw": "AVX512",
              "avx512_vnni": "AVX512_VNNI", "avx512vbmi": "AVX512_VBMI", "avx512_bf16": "AVX512_BF16"}
    return " ".join(["-DGGML_NATIVE=OFF", *(f"-DGGML_{name}=ON" for flag, name in wanted.items() if flag in flags)])


def torch_library(python):
    code = "import torch, os; print(os.path.join(os.path.dirname(torch.__file__), 'lib', 'libtorch_cpu.so'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def openblas():
    for pattern in ("/usr/lib/*/openblas-pthread/libopenblas.so.0", "/usr/lib/*/libopenblas.so.0", "/usr/lib64/libopenblas.so.0"):
        found = glob.glob(pattern)
        if found:
            return found[0]
    return None


def environment(threads):
    env = dict(os.environ, ATTN_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads),
               OPENBLAS_NUM_THREADS=str(threads))
    if env.get("ATTN_CPU") == "avx2":
        env.setdefault("MKL_ENABLE_INSTRUCTIONS", "AVX2")
        env.setdefault("OPENBLAS_CORETYPE", "Haswell")
        env.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
        env.setdefault("ATEN_CPU_CAPABILITY", "avx2")
    return env


def build(target):
    ninja = shutil.which("ninja") or shutil.which("ninja-build")
    subprocess.run([ninja, "-C", BUILD, target], check=True, stdout=subprocess.DEVNULL)


def bench_gemm(args):
    python = peers_python()
    build("bench/gemm")
    peers = []
    if openblas():
        peers.append(f"{openblas()}:sgemm_")
    if python:
        peers.append(f"{torch_library(python)}:SGEMM")
    return subprocess.run([os.path.join(BUILD, "bench", "gemm"), str(args.threads), str(args.seconds), *peers],
                          env=environment(args.threads)).returncode


def bench_train_step(args):
    python = peers_python()
    build("bench/train_step")
    if not python:
        print("no PyTorch here: ./run bench --install-peers gets it; ours alone:", file=sys.stderr)
        return subprocess.run([os.path.join(BUILD, "bench", "train_step")], input="step\n" * args.repeats, text=True,
                              env=environment(args.threads)).returncode
    command = [python, os.path.join(ROOT, "bench", "train_step.py"), BUILD, "--threads", str(args.threads), "--repeats",
               str(args.repeats)]
    return subprocess.run(command, env=environment(args.threads)).returncode


def bench_attention(what, options):
    build("bench/" + what)
    python = peers_python("numpy")
    if not python:
        print("NumPy is needed, which --install-peers gets with the peers", file=sys.stderr)
        return 1
    return subprocess.run([python, os.path.join(ROOT, "bench", what + ".py"), BUILD, *options]).returncode


BENCHES = {"gemm": bench_gemm, "train-step": bench_train_step}
SCRIPTS = {"attention": ["--quick"], "decode": ["--cases", "*S=4096 D=128 B=1"]}  # of bench/, and their options without a name


def main():
    parser = argparse.ArgumentParser(prog="run bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT",
                        help="default: all, of attention the quick set, of decode 4096 keys")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=2, help="for each shape")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--install-peers", action="store_true")
    if sys.argv[1:2] and sys.argv[1] in SCRIPTS:
        sys.exit(bench_attention(sys.argv[1], sys.argv[2:]))
    args = parser.parse_args()
    for what in args.what:
        if what not in (*BENCHES, *SCRIPTS):
            parser.error(f"found \"{what}\", expected {', '.join((*BENCHES, *SCRIPTS))}")
    if args.install_peers:
        install_peers()
    code = 0
    for what in args.what or [*BENCHES, *SCRIPTS]:
        print(f"== {what}", flush=True)
        if what in SCRIPTS:
            code = bench_attention(what, [*SCRIPTS[what], "--threads", str(args.threads)]) or code
        else:
            code = BENCHES[what](args) or code
    sys.exit(code)


if __name__ == "__main__":
    main()
