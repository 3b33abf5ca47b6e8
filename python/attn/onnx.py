"""ONNX operators by this package's functions.

    outputs = attn.onnx.run_node(node, inputs)        # node: onnx.NodeProto, inputs: NumPy arrays, None where left out

A function for each operator takes the inputs and the attributes and returns all outputs, None for what nobody asked for.
The specification is that of Attention 23, 24 and 25 and of RotaryEmbedding 23.
"""
import numpy as np

from . import attention, rotary_embedding

__all__ = ["run_node", "OPERATORS"]


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
    y = attention(q, k, v, **_mask_options(mask, k.shape[2]),
                  causal="offset" if attributes.get("is_causal") else None,
                  window=(attributes.get("left_window_size", -1), attributes.get("right_window_size", -1)),
                  query_offset=position, kv_lengths=kv_lengths, scale=attributes.get("scale"),
                  softcap=attributes.get("softcap"))
    if wanted > 3:
        raise NotImplementedError("Attention: the output qk_matmul_output")
    return _join_heads(y) if rank == 3 else y, k, v


# ---- RotaryEmbedding ----------------------------------------------------------------------------------


def _rotary_embedding(inputs, attributes, _wanted):
    x, cos, sin, positions = inputs + [None] * (4 - len(inputs))
    rank = x.ndim
    if rank == 3:
        x = _split_heads(x, attributes["num_heads"])
    y = rotary_embedding(x, cos, sin, positions=positions, interleaved=bool(attributes.get("interleaved")),
                         rotary_dim=attributes.get("rotary_embedding_dim"))
    return (_join_heads(y) if rank == 3 else y,)


# ---- nodes --------------------------------------------------------------------------------------------

OPERATORS = {"Attention": _attention, "RotaryEmbedding": _rotary_embedding}


def run_node(node, inputs):
    """The outputs of a NodeProto, a list as long as node.output, None where its name is empty."""
    from onnx import helper  # only those who have nodes need it

    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    wanted = max((i + 1 for i, name in enumerate(node.output) if name), default=0)
    outputs = OPERATORS[node.op_type](list(inputs), attributes, wanted)
    return [output if name else None for name, output in zip(node.output, outputs, strict=False)]
