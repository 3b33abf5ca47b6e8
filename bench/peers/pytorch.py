"""PyTorch: scaled_dot_product_attention, and its gradients through autograd."""
import numpy as np
import torch
import torch.nn.functional as F

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def version():
    return f"PyTorch {torch.__version__.split('+')[0]}"


def prepare(threads):
    torch.set_num_threads(threads)


def mask_of(case):
    """What is_causal cannot say, as a mask of bool broadcast over what it may."""
    if case.window:
        mask = np.stack([case.visible(range(case.T), n) for n in {case.S}])[:, None]
    elif case.padding:
        mask = np.ones((case.B, 1, 1, case.S), bool)
    else:
        return None
    if case.padding:
        keep = np.arange(case.S)[None] < np.array(case.lengths)[:, None]
        mask = mask & keep[:, None, None]
        if case.causal and not case.window:
            mask = mask & case.visible(range(case.T), case.S)[None, None]
    return torch.from_numpy(mask)


def variants(case, arrays):
    q, k, v, dout = (torch.from_numpy(arrays[key]).to(DTYPES[case.dtype]) for key in ("q", "k", "v", "dout"))
    mask = mask_of(case)
    options = {"is_causal": case.causal and mask is None, "dropout_p": case.dropout, "enable_gqa": case.Hk != case.H}

    def function(bias):
        def forward():
            with torch.inference_mode():
                return [F.scaled_dot_product_attention(q, k, v, attn_mask=bias, **options)]

        def both():
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, **options)
            return [out, *torch.autograd.grad(out, (q, k, v), dout)]

        return both if case.backward else forward

    if case.backward:
        for x in (q, k, v):
            x.requires_grad_()
    if mask is None:
        return {"scaled_dot_product_attention": function(None)}
    bias = torch.zeros(mask.shape, dtype=q.dtype).masked_fill_(~mask, float("-inf"))
    return {"mask of bool": function(mask), "mask of floats": function(bias)}


def results(found):
    return {key: x.detach().float().numpy() for key, x in zip(("out", "dq", "dk", "dv"), found)}
