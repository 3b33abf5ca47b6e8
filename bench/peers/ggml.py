"""ggml: ggml_flash_attn_ext of the library inside llama-cpp-python. q f32, k and v f16 as its caches hold them (or f32, if that is
faster). No backward."""
import ctypes
import glob
import importlib.metadata
import os

import numpy as np

from cases import Cannot

F32, F16 = 0, 1
GRAPH_BYTES = 1 << 24  # tensors' heads, graph
pointer, number = ctypes.c_void_p, ctypes.c_int64


class InitParams(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", pointer), ("no_alloc", ctypes.c_bool)]


class ThreadpoolParams(ctypes.Structure):
    _fields_ = [("cpumask", ctypes.c_bool * 512), ("n_threads", ctypes.c_int), ("prio", ctypes.c_int), ("poll", ctypes.c_uint32),
                ("strict_cpu", ctypes.c_bool), ("paused", ctypes.c_bool)]


class Plan(ctypes.Structure):
    _fields_ = [("work_size", ctypes.c_size_t), ("work_data", pointer), ("n_threads", ctypes.c_int), ("threadpool", pointer),
                ("abort_callback", pointer), ("abort_callback_data", pointer), ("use_ref", ctypes.c_bool)]


FUNCTIONS = {  # name: (result, arguments)
    "ggml_cpu_init": (None, []),
    "ggml_init": (pointer, [InitParams]),
    "ggml_free": (None, [pointer]),
    "ggml_new_tensor_4d": (pointer, [pointer, ctypes.c_int, number, number, number, number]),
    "ggml_get_data": (pointer, [pointer]),
    "ggml_flash_attn_ext": (pointer, [pointer] * 5 + [ctypes.c_float] * 3),
    "ggml_new_graph": (pointer, [pointer]),
    "ggml_build_forward_expand": (None, [pointer, pointer]),
    "ggml_threadpool_params_init": (None, [ctypes.POINTER(ThreadpoolParams), ctypes.c_int]),
    "ggml_threadpool_new": (pointer, [ctypes.POINTER(ThreadpoolParams)]),
    "ggml_graph_plan": (Plan, [pointer, ctypes.c_int, pointer]),
    "ggml_graph_compute": (ctypes.c_int, [pointer, ctypes.POINTER(Plan)]),
}
call, n_threads, pool = {}, 1, None


def prepare(threads):
    global n_threads, pool
    import llama_cpp  # for its place; it loads the libraries too
    folder = os.path.join(os.path.dirname(llama_cpp.__file__), "lib")
    libraries = [ctypes.CDLL(sorted(glob.glob(os.path.join(folder, f"lib{name}.*")))[0], ctypes.RTLD_GLOBAL)
                 for name in ("ggml-base", "ggml-cpu")]
    for name, (result, arguments) in FUNCTIONS.items():
        function = next(getattr(library, name) for library in libraries if hasattr(library, name))
        function.restype, function.argtypes = result, arguments
        call[name.removeprefix("ggml_")] = function
    call["cpu_init"]()
    parameters = ThreadpoolParams()
    call["threadpool_params_init"](parameters, threads)
    n_threads, pool = threads, call["threadpool_new"](parameters)


def version():
    return f"ggml of llama-cpp-python {importlib.metadata.version('llama-cpp-python')}"


class Graph:
    """One flash_attn_ext; ggml owns the memory of its tensors until the graph goes."""

    def __init__(self, case, arrays, kind):
        mask = mask_of(case)
        bytes_of = sum(x.nbytes for x in arrays.values()) + arrays["dout"].nbytes + (0 if mask is None else mask.nbytes)
        self.context = call["init"](InitParams(GRAPH_BYTES + bytes_of, None, False))
        q, k, v = (self.tensor(arrays[key], type_of) for key, type_of in (("q", F32), ("k", kind), ("v", kind)))
        mask = None if mask is None else self.tensor(mask, F16)
        self.shape = (case.B, case.T, case.H, case.Dv)
        self.out = call["flash_attn_ext"](self.context, q, k, v, mask, case.D**-0.5, 0.0, 0.0)
        self.graph = call["new_graph"](self.context)
        call["build_forward_expand"](self.graph, self.out)
        self.plan = call["graph_plan"](self.graph, n_threads, pool)
        self.work = ctypes.create_string_buffer(self.plan.work_size + 64)
        self.plan.work_data = ctypes.addressof(self.work)

    def __del__(self):
        call["free"](self.context)

    def tensor(self, x, kind):
        x = np.ascontiguousarray(x, {F32: np.float32, F16: np.float16}[kind])
        found = call["new_tensor_4d"](self.context, kind, *x.shape[::-1])
        ctypes.memmove(call["get_data"](found), x.ctypes.data, x.nbytes)
        return found

    def __call__(self):
        if call["graph_compute"](self.graph, self.plan) != 0:
            raise RuntimeError("ggml_graph_compute failed")
        return self

    def result(self):
        values = (ctypes.c_float * int(np.prod(self.shape))).from_address(call["get_data"](self.out))
        return np.ctypeslib.as_array(values).reshape(self.shape).transpose(0, 2, 1, 3)


def mask_of(case):
    """0 and −inf, (B or 1, 1, T, S), or None."""
    if not (case.causal or case.window or case.padding):
        return None
    keep = np.arange(case.S)[None] < np.array(case.lengths if case.padding else [case.S])[:, None]
    keep = keep[:, None, None] & case.visible(range(case.T), case.S)[None, None]
    return np.where(keep, 0, -np.inf).astype(np.float16)


def variants(case, arrays):
    if case.backward or case.dropout:
        raise Cannot("no backward, no dropout")
    return {"k, v f16": Graph(case, arrays, F16), "k, v f32": Graph(case, arrays, F32)}


def results(graph):
    return {"out": graph.result()}
