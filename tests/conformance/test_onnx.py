"""ONNX's own test cases of the operators that attn.onnx maps, through ONNX's own runner: none is left out or skipped."""
import unittest
import warnings

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
import onnx.backend.test  # noqa: E402

import attn.onnx  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # other operators' cases overflow on purpose
    from onnx.backend.test.case.node import collect_testcases

    CASES = {case.name: case for case in collect_testcases(None)
             if not case.name.endswith("_expanded") and case.model.graph.node[0].op_type in attn.onnx.OPERATORS}
    RUNNER = onnx.backend.test.BackendTest(attn.onnx.Backend, __name__)

EXPECTED = {"Attention": 93, "RotaryEmbedding": 8, "LayerNormalization": 19, "RMSNormalization": 19, "Softmax": 7,
            "LogSoftmax": 7, "GRU": 6, "Gelu": 4}  # of onnx 1.23.2

RUN = []  # names of the cases that came to their end


class TestPrimaries(unittest.TestCase):
    """Each case as the runner made it, for the CPU."""


def add(name, function):
    def run(self):
        function(self)
        RUN.append(name)

    setattr(TestPrimaries, name, run)


for case_name, function in vars(RUNNER.test_cases["OnnxBackendNodeModelTest"]).items():
    if case_name.removesuffix("_cpu") in CASES:
        add(case_name, function)


def test_none_is_missing():
    """All of them have run, none was skipped; pytest runs this file from top to bottom."""
    assert sorted(RUN) == sorted(name + "_cpu" for name in CASES)
    if onnx.__version__ == "1.23.2":
        found = [CASES[name.removesuffix("_cpu")].model.graph.node[0].op_type for name in RUN]
        assert {name: found.count(name) for name in EXPECTED} == EXPECTED


def test_every_output_counts():
    """The runner compares what the backend gives with what is expected: something else is noticed."""
    case = CASES["test_attention_4d_with_past_and_present_qk_matmul_bias"]
    inputs, expected = case.data_sets[0]
    outputs = attn.onnx.Backend.run_model(case.model, inputs)
    assert len(outputs) == len(expected) == 4
    compare = RUNNER.assert_similar_outputs
    compare(expected, outputs, case.rtol, case.atol)
    for i in range(4):
        wrong = [output + np.float32(0.01) if j == i else output for j, output in enumerate(outputs)]
        with pytest.raises(AssertionError):
            compare(expected, wrong, case.rtol, case.atol)


def test_models_and_nodes(rng):
    x, gain = rng.standard_normal((3, 4), np.float32), rng.standard_normal(4, np.float32)
    nodes = [onnx.helper.make_node("RMSNormalization", ["x", "gain"], ["n"]),
             onnx.helper.make_node("Softmax", ["n"], ["y"])]
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [3, 4]) for name in "xyn"]
    graph = onnx.helper.make_graph(nodes, "two", values[:1], values[1:], [onnx.numpy_helper.from_array(gain, "gain")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)])
    y, n = attn.onnx.Backend.run_model(model, [x])
    np.testing.assert_array_equal(n, attn.rms_norm(x, gain))
    np.testing.assert_array_equal(y, attn.softmax(n))
    (alone,) = attn.onnx.Backend.run_node(nodes[1], [n])
    np.testing.assert_array_equal(alone, y)
    assert attn.onnx.Backend.is_compatible(model) and not attn.onnx.Backend.supports_device("CUDA")
    other = onnx.helper.make_node("Relu", ["x"], ["y"])
    with pytest.raises(NotImplementedError, match="operator ai.onnx Relu, expected one of Attention"):
        attn.onnx.run_node(other, [x])
    graph.node.append(onnx.helper.make_node("Relu", ["y"], ["r"]))
    assert not attn.onnx.Backend.is_compatible(model := onnx.helper.make_model(graph))
    with pytest.raises(NotImplementedError, match="expected a model of Attention"):
        attn.onnx.Backend.prepare(model)


def test_gru_that_is_not_there():
    node = onnx.helper.make_node("GRU", ["x", "w", "u"], ["y"], hidden_size=1, clip=1.0)
    zeros = np.zeros((1, 3, 1), np.float32)
    with pytest.raises(NotImplementedError, match="GRU: clip is 1.0, expected nothing"):
        attn.onnx.run_node(node, [zeros, zeros, zeros])


@pytest.mark.parametrize("linear_before_reset", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
def test_gru_beside_the_reference(linear_before_reset, direction, layout, rng):
    """Initial states, biases, both layouts: what the cases of ONNX leave out, in double."""
    size, width, batch, steps, directions = 4, 3, 2, 5, 2 if direction == "bidirectional" else 1
    node = onnx.helper.make_node("GRU", ["x", "w", "u", "b", "", "h"], ["y", "y_h"], hidden_size=size, layout=layout,
                                 direction=direction, linear_before_reset=linear_before_reset)
    x, w, u, b, h = (rng.standard_normal(shape, np.float32) for shape in (
        (steps, batch, width), (directions, 3 * size, width), (directions, 3 * size, size), (directions, 6 * size),
        (directions, batch, size)))
    y, last = attn.onnx.run_node(node, [*(a.swapaxes(0, 1) if layout and a is x else a for a in (x, w, u, b)), None,
                                        h.swapaxes(0, 1) if layout else h])
    if layout:
        y, last = y.transpose(1, 2, 0, 3), last.swapaxes(0, 1)
    for d in range(directions):
        state, backwards = h[d].astype(np.float64), direction == "reverse" or d == 1
        wz, wr, wn = np.split(w[d].astype(np.float64), 3)
        uz, ur, un = np.split(u[d].astype(np.float64), 3)
        bz, br, bn, cz, cr, cn = np.split(b[d].astype(np.float64), 6)
        for t in reversed(range(steps)) if backwards else range(steps):
            z = 1 / (1 + np.exp(-(x[t] @ wz.T + bz + state @ uz.T + cz)))
            r = 1 / (1 + np.exp(-(x[t] @ wr.T + br + state @ ur.T + cr)))
            inner = r * (state @ un.T + cn) if linear_before_reset else (r * state) @ un.T + cn
            state = (1 - z) * np.tanh(x[t] @ wn.T + bn + inner) + z * state
            np.testing.assert_allclose(y[t, d], state, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(last[d], state, rtol=1e-5, atol=1e-6)
