"""OpenVINO: scaled_dot_product_attention of opset 13. No backward."""
import numpy as np
import openvino
from openvino import Type, opset13

from cases import Cannot

threads = 1


def version():
    return f"OpenVINO {openvino.__version__.split('-')[0]}"


def prepare(n):
    global threads
    threads = n


def shared_heads(x, case):
    """(B, Hk, S, ·) → (B, H, S, ·): each key head for its group."""
    b, hk, s, d = x.shape
    wide = opset13.broadcast(opset13.unsqueeze(x, np.int64(2)), np.array([b, hk, case.H // hk, s, d]))
    return opset13.reshape(wide, np.array([b, case.H, s, d]), False)


def variants(case, arrays):
    if case.backward or case.dropout:
        raise Cannot("no backward, no dropout")
    kind = {"f32": Type.f32, "bf16": Type.bf16, "f16": Type.f16}[case.dtype]
    arrays = {key: arrays[key] for key in ("q", "k", "v")}
    parameters = [opset13.parameter(x.shape, kind, name=key) for key, x in arrays.items()]
    q, k, v = parameters
    if case.Hk != case.H:
        k, v = shared_heads(k, case), shared_heads(v, case)
    inputs, options = [q, k, v], {"causal": case.causal}
    if case.padding or case.window:
        keep = np.arange(case.S)[None] < np.array(case.lengths)[:, None]
        arrays["mask"] = keep[:, None, None] & case.visible(range(case.T), case.S)[None, None]
        parameters.append(opset13.parameter(arrays["mask"].shape, Type.boolean, name="mask"))
        inputs, options = [*inputs, parameters[-1]], {"causal": False}
    model = openvino.Model([opset13.scaled_dot_product_attention(*inputs, **options)], parameters, "attention")
    hint = {"f32": Type.f32, "bf16": Type.bf16, "f16": Type.f16}[case.dtype]
    compiled = openvino.Core().compile_model(model, "CPU", {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    for i, x in enumerate(arrays.values()):
        request.set_input_tensor(i, tensor_of(x, parameters[i].get_element_type()))

    def run():
        request.infer()
        return request.get_output_tensor(0)

    return {"scaled_dot_product_attention": run}


def tensor_of(x, kind):
    if kind == Type.bf16:
        tensor = openvino.Tensor(kind, x.shape)
        tensor.data.view(np.uint16)[:] = (x.view(np.uint32) >> 16).astype(np.uint16)
        return tensor
    return openvino.Tensor(x.astype(np.float16) if kind == Type.f16 else np.ascontiguousarray(x))


def results(tensor):
    if tensor.get_element_type() == Type.bf16:
        return {"out": (tensor.data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)}
    return {"out": tensor.data}
