"""ONNX operators by this package's functions, and a backend for ONNX's own test runner.

    outputs = attn.onnx.run_node(node, inputs)        # node: onnx.NodeProto, inputs: NumPy arrays, None where left out
    outputs = attn.onnx.Backend.run_model(model, inputs)
    onnx.backend.test.BackendTest(attn.onnx.Backend, __name__)

A function for each operator takes the inputs and the attributes and returns all outputs, None for what nobody asked for.
The specification is that of Attention 23, 24 and 25, RotaryEmbedding 23, LayerNormalization 17, RMSNormalization 23,
Softmax and LogSoftmax 13, Gelu 20 and GRU 22.
"""
import numpy as np
import onnx
import onnx.backend.base

from . import attention, attention_scores, gelu, gru, layer_norm, log_softmax, rms_norm, rotary_embedding, softmax

__all__ = ["run_node", "Backend", "OPERATORS"]


# ---- Attention ----------------------------------------------------------------------------------------


def _split_heads(x, heads):
    """(B, T, heads · D) as (B, heads, T, D), without a copy."""
    batch, steps, width = x.shape
    return x.reshape(batch, steps, heads, width // heads).transpose(0, 2, 1, 3)


def _join_heads(x):
    """(B, H, T, D) as (B, T, H · D)."""
    batch, heads, steps, width = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, steps, heads * width)


def _mask_options(mask, keys):
    """attn_mask selects keys (bool) or is added to the scores; what it is too short for is hidden."""
    if mask is None:
        return {}
    kind, hidden = ("mask", False) if mask.dtype == bool else ("bias", -np.inf)
    missing = keys - mask.shape[-1]
    if missing > 0:
        mask = np.concatenate([mask, np.full(mask.shape[:-1] + (missing,), hidden, mask.dtype)], axis=-1)
    return {kind: mask}


def _attention(inputs, attributes, wanted):
    q, k, v, mask, past_k, past_v, kv_lengths = inputs + [None] * (7 - len(inputs))
    rank = q.ndim
    if rank == 3:
        kv_heads = attributes["kv_num_heads"]
        q, k, v = _split_heads(q, attributes["q_num_heads"]), _split_heads(k, kv_heads), _split_heads(v, kv_heads)
    # Query 0 stands after the past, or at the end of an external cache's real part, else at key 0.
    position = 0
    if past_k is not None:
        position = past_k.shape[2]
        k, v = np.concatenate([past_k, k], axis=2), np.concatenate([past_v, v], axis=2)
    elif kv_lengths is not None:
        position = kv_lengths.reshape(-1) - q.shape[2]
    options = {"causal": "offset" if attributes.get("is_causal") else None,
               "window": (attributes.get("left_window_size", -1), attributes.get("right_window_size", -1)),
               "query_offset": position, "kv_lengths": kv_lengths, "scale": attributes.get("scale"),
               "softcap": attributes.get("softcap"), **_mask_options(mask, k.shape[2])}
    y, scores = attention(q, k, v, **options), None
    if wanted > 3:  # 0 scaled, 1 capped, 2 biased, 3 probabilities: attention_scores' stages
        stage = attributes.get("qk_matmul_output_mode", 0)
        scores = attention_scores(q, k, stage=stage, **options).astype(q.dtype)
    return _join_heads(y) if rank == 3 else y, k, v, scores


# ---- RotaryEmbedding ----------------------------------------------------------------------------------


def _rotary_embedding(inputs, attributes, _wanted):
    x, cos, sin, positions = inputs + [None] * (4 - len(inputs))
    rank = x.ndim
    if rank == 3:
        x = _split_heads(x, attributes["num_heads"])
    y = rotary_embedding(x, cos, sin, positions=positions, interleaved=bool(attributes.get("interleaved")),
                         rotary_dim=attributes.get("rotary_embedding_dim"))
    return (_join_heads(y) if rank == 3 else y,)


# ---- normalisations, softmax, Gelu --------------------------------------------------------------------


def _broadcast(x, shape):
    return None if x is None else np.broadcast_to(x, shape)


def _layer_normalization(inputs, attributes, wanted):
    x, gain, bias = inputs + [None] * (3 - len(inputs))
    shape = x.shape[attributes.get("axis", -1):]
    found = layer_norm(x, _broadcast(gain, shape), _broadcast(bias, shape), epsilon=attributes.get("epsilon", 1e-5),
                       return_stats=wanted > 1)
    return found if wanted > 1 else (found,)


def _rms_normalization(inputs, attributes, _wanted):
    x, gain = inputs
    return (rms_norm(x, _broadcast(gain, x.shape[attributes.get("axis", -1):]), epsilon=attributes.get("epsilon", 1e-5)),)


def _over_axis(function):
    def operator(inputs, attributes, _wanted):
        axis = attributes.get("axis", -1)
        return (np.ascontiguousarray(np.moveaxis(function(np.moveaxis(inputs[0], axis, -1)), -1, axis)),)

    return operator


def _gelu(inputs, attributes, _wanted):
    return (gelu(inputs[0], approximate=attributes.get("approximate", b"none").decode()),)


# ---- GRU ----------------------------------------------------------------------------------------------

_GRU_ACTIVATIONS = [b"Sigmoid", b"Tanh"]


def _gates(x, size):
    """Rows z, r, n as r, z, n."""
    return None if x is None else np.concatenate([x[size:2 * size], x[:size], x[2 * size:]])


def _gru(inputs, attributes, _wanted):
    x, w, u, biases, lengths, start = inputs + [None] * (6 - len(inputs))
    directions, size = w.shape[0], u.shape[2]
    for name, expected in (("clip", None), ("activations", _GRU_ACTIVATIONS * directions)):
        if attributes.get(name, expected) != expected:
            raise NotImplementedError(f"GRU: {name} is {attributes[name]}, expected {expected or 'nothing'}")
    batch_first = attributes.get("layout", 0) == 1
    if batch_first:
        x, start = x.swapaxes(0, 1), None if start is None else start.swapaxes(0, 1)
    outputs, last = [], []
    for d in range(directions):
        reverse = d == 1 or attributes.get("direction") == b"reverse"
        b, c = (None, None) if biases is None else (biases[d, :3 * size], biases[d, 3 * size:])
        y = gru(x, _gates(w[d], size), _gates(u[d], size), _gates(b, size), _gates(c, size),
                None if start is None else start[d], lengths=lengths, reverse=reverse,
                reset_after=bool(attributes.get("linear_before_reset", 0)))
        last.append(y[0 if reverse else -1])
        if lengths is not None:  # ONNX has zeros past a sequence's length
            y = np.where(np.arange(len(y))[:, None, None] < lengths[:, None], y, np.float32(0))
        outputs.append(y)
    y, h = np.stack(outputs, axis=1), np.stack(last)
    return (y.transpose(2, 0, 1, 3), h.swapaxes(0, 1)) if batch_first else (y, h)


# ---- nodes and models ---------------------------------------------------------------------------------

OPERATORS = {"Attention": _attention, "RotaryEmbedding": _rotary_embedding, "LayerNormalization": _layer_normalization,
             "RMSNormalization": _rms_normalization, "Softmax": _over_axis(softmax), "LogSoftmax": _over_axis(log_softmax),
             "Gelu": _gelu, "GRU": _gru}


def run_node(node, inputs):
    """The outputs of a NodeProto, a list as long as node.output, None where its name is empty."""
    if node.domain or node.op_type not in OPERATORS:
        found = f"operator {node.domain or 'ai.onnx'} {node.op_type}"
        raise NotImplementedError(f"{found}, expected one of {', '.join(OPERATORS)}")
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    wanted = max((i + 1 for i, name in enumerate(node.output) if name), default=0)
    outputs = OPERATORS[node.op_type](list(inputs), attributes, wanted)
    return [output if name else None for name, output in zip(node.output, outputs, strict=False)]


class _Model(onnx.backend.base.BackendRep):
    def __init__(self, model):
        self.graph = model.graph
        self.constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    def run(self, inputs, **_keywords):
        names = [value.name for value in self.graph.input if value.name not in self.constants]
        values = {"": None, **self.constants, **dict(zip(names, inputs, strict=True))}
        for node in self.graph.node:
            outputs = run_node(node, [values[name] for name in node.input])
            values.update((name, array) for name, array in zip(node.output, outputs, strict=False) if name)
        return tuple(values[output.name] for output in self.graph.output)


class Backend(onnx.backend.base.Backend):
    """A backend as onnx.backend.base describes it, for models of OPERATORS, on the CPU."""

    @classmethod
    def is_compatible(cls, model, device="CPU", **_keywords):
        known = all(not node.domain and node.op_type in OPERATORS for node in model.graph.node)
        return known and cls.supports_device(device)

    @classmethod
    def prepare(cls, model, device="CPU", **_keywords):
        onnx.checker.check_model(model)
        if not cls.is_compatible(model, device):
            raise NotImplementedError(f"expected a model of {', '.join(OPERATORS)} on the CPU")
        return _Model(model)

    @classmethod
    def run_node(cls, node, inputs, device="CPU", outputs_info=None, **keywords):
        super().run_node(node, inputs, device, outputs_info, **keywords)  # checks
        return tuple(output for output in run_node(node, inputs) if output is not None)

    @classmethod
    def supports_device(cls, device):
        return device == "CPU"
