"""ONNX's own test cases of the operators that attn.onnx maps, as package onnx makes them: none is left out."""
import warnings

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
import attn.onnx  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # other operators' cases overflow on purpose
    from onnx.backend.test.case.node import collect_testcases

    ALL = collect_testcases(None)

EXPECTED = {"Attention": 93, "RotaryEmbedding": 8}  # of onnx 1.23.2
CASES = [case for case in ALL if not case.name.endswith("_expanded") and case.model.graph.node[0].op_type in EXPECTED]


def inputs_of(node, arrays):
    """The arrays at the node's inputs, None where a name is empty."""
    arrays = iter(arrays)
    return [next(arrays) if name else None for name in node.input]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case):
    node = case.model.graph.node[0]
    outputs = list(node.output)
    if "qk_matmul_output" in outputs:  # the scores are not an output of attention(); the others are compared
        node.output[outputs.index("qk_matmul_output")] = ""
    for arrays, expected in case.data_sets:
        found = attn.onnx.run_node(node, inputs_of(node, arrays))
        expected = dict(zip([name for name in outputs if name], expected, strict=True))
        for name, array in zip(node.output, found, strict=False):
            if not name:
                continue
            want = expected[name]
            assert array.dtype == want.dtype and array.shape == want.shape
            rtol = 2.0**-6 if want.dtype.name == "bfloat16" else case.rtol
            np.testing.assert_allclose(array.astype(np.float64), want.astype(np.float64), rtol=rtol, atol=case.atol)


@pytest.mark.skipif(onnx.__version__ != "1.23.2", reason="the numbers of cases are those of onnx 1.23.2")
def test_none_is_missing():
    found = [case.model.graph.node[0].op_type for case in CASES]
    assert {name: found.count(name) for name in EXPECTED} == EXPECTED
