"""ONNX Runtime: its attention operators, on tensors bound beforehand. No backward, f32."""
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from cases import Cannot

threads = 1


def version():
    return f"ONNX Runtime {onnxruntime.__version__}"


def prepare(n):
    global threads
    threads = n
    onnxruntime.set_default_logger_severity(4)


def session(node, inputs, outputs, finish=lambda x: x):
    """A function that runs one node on arrays and returns what gives the first output, through finish; outputs are
    {name: shape}."""
    graph = helper.make_graph(
        [node], "attention",
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for name, x in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()])
    model = helper.make_model(graph, ir_version=10,
                              opset_imports=[helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    found = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = found.io_binding()
    for name, x in inputs.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(x))
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32)) for shape in outputs.values()]
    for name, value in zip(outputs, values):
        binding.bind_ortvalue_output(name, value)

    def run():
        found.run_with_iobinding(binding)
        return lambda: finish(values[0].numpy())

    return run


def rows_of(x):
    """(B, H, T, D) → (B, T, H·D)"""
    return np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(x.shape[0], x.shape[2], -1)


def heads_of(x, heads):
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(0, 2, 1, 3)


def operator(case, x, out):
    """Attention of opset 23, on (B, H, T, D)."""
    inputs = {key: x[key] for key in ("q", "k", "v")}
    if case.padding or case.window:
        keep = np.arange(case.S)[None] < np.array(case.lengths)[:, None]
        inputs["mask"] = keep[:, None, None] & case.visible(range(case.T), case.S)[None, None]
    node = helper.make_node("Attention", list(inputs), ["out"], is_causal=int(case.causal and "mask" not in inputs))
    return session(node, inputs, {"out": out})


def multi_head(case, x, out):
    """com.microsoft.MultiHeadAttention: q (B, T, H·D); k, v (B, H, S, D) or as q."""
    if case.Hk != case.H or case.window:
        raise Cannot("MultiHeadAttention has no groups and no window")
    inputs = {key: rows_of(x[key]) for key in ("q", "k", "v")}
    names = list(inputs)
    if case.padding:
        inputs["lengths"] = np.array(case.lengths, np.int32)
        names += ["", "lengths"]
    node = helper.make_node("MultiHeadAttention", names, ["out"], domain="com.microsoft", num_heads=case.H,
                            unidirectional=int(case.causal))
    return session(node, inputs, {"out": (case.B, case.T, case.H * case.Dv)}, lambda y: heads_of(y, case.H))


def grouped(case, x, out):
    """com.microsoft.GroupQueryAttention: causal, with a window if wanted."""
    if not case.causal or case.padding or case.Dv != case.D or case.T != case.S:
        raise Cannot("GroupQueryAttention is causal, without padding, with Dv = D and T = S")
    inputs = {key: rows_of(x[key]) for key in ("q", "k", "v")}
    inputs["last"] = np.array(case.lengths, np.int32) - 1
    inputs["total"] = np.array([case.S], np.int32)
    node = helper.make_node("GroupQueryAttention", ["q", "k", "v", "", "", "last", "total"], ["out", "keys", "values"],
                            domain="com.microsoft", num_heads=case.H, kv_num_heads=case.Hk,
                            **({"local_window_size": case.window + 1} if case.window else {}))
    cache = (case.B, case.Hk, case.S, case.D)
    return session(node, inputs, {"out": (case.B, case.T, case.H * case.Dv), "keys": cache, "values": cache},
                   lambda y: heads_of(y, case.H))


def variants(case, arrays):
    if case.backward or case.dropout or case.dtype != "f32":
        raise Cannot("no backward, no dropout, f32 alone")
    out, found, failures = (case.B, case.H, case.T, case.Dv), {}, []
    for name, make in (("Attention", operator), ("MultiHeadAttention", multi_head), ("GroupQueryAttention", grouped)):
        try:
            found[name] = make(case, arrays, out)
        except Exception as error:  # a session that is refused says why
            failures.append(str(error).splitlines()[0][:150])
    if not found:
        raise Cannot("; ".join(failures))
    return found


def results(found):
    return {"out": found()}
