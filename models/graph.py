"""The model as an ONNX graph: for each head numbers of buckets in, scores of all heads out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.linear import Linear

_OPSET, _IR = 17, 8
"""Old enough for any onnxruntime of the last years."""


def graph(heads: Mapping[str, Linear]) -> bytes:
    """The serialised graph, the same bytes for the same heads.

    Each head has an input of its name: int32 (texts, any), buckets of its window in order of size, padded with 0; one
    that comes again counts once. Output `scores`: float32 (texts, heads). Tables are stored in float16, which halves
    the file and moves no score by more than 0.001.
    """
    constants = [
        numpy_helper.from_array(np.array([0, 1, 0, -1], np.int64), "shift"),
        numpy_helper.from_array(np.array(0, np.int32), "none"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
        numpy_helper.from_array(np.array([1, 1], np.int64), "parts"),
        numpy_helper.from_array(np.array(1, np.float32), "least"),
    ]
    nodes = []
    for head, model in heads.items():
        constants += _constants(head, model)
        nodes += _nodes(head)
    nodes.append(helper.make_node("Concat", [f"{head}.score" for head in heads], ["scores"], axis=1))
    built = helper.make_model(
        helper.make_graph(
            nodes,
            "guard",
            [helper.make_tensor_value_info(head, TensorProto.INT32, ["texts", f"{head}_buckets"]) for head in heads],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["texts", len(heads)])],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
        producer_name="sluice",
    )
    onnx.checker.check_model(built)
    serialised: bytes = built.SerializeToString(deterministic=True)
    return serialised


def _constants(head: str, model: Linear) -> list[onnx.TensorProto]:
    table = model.table.astype(np.float16)
    table[0] = 0
    return [
        numpy_helper.from_array(table, f"{head}.table"),
        numpy_helper.from_array(np.array(model.bias, np.float32), f"{head}.bias"),
        numpy_helper.from_array(np.array(model.power, np.float32), f"{head}.power"),
    ]


def _nodes(head: str) -> list[onnx.NodeProto]:
    """`Linear.logits`, and the score of it."""
    steps: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
        ("Pad", [head, "shift"], ["before"], {}),
        ("Equal", [head, "before"], ["again"], {}),
        ("Where", ["again", "none", head], ["once"], {}),
        ("Gather", ["table", "once"], ["halves"], {"axis": 0}),
        ("Cast", ["halves"], ["found"], {"to": TensorProto.FLOAT}),
        ("ReduceSum", ["found", "axis"], ["sums"], {"keepdims": 0}),
        ("Split", ["sums", "parts"], ["weight", "squares"], {"axis": 1}),
        ("Max", ["squares", "least"], ["positive"], {}),
        ("Pow", ["positive", "power"], ["length"], {}),
        ("Div", ["weight", "length"], ["damped"], {}),
        ("Add", ["damped", "bias"], ["logit"], {}),
        ("Sigmoid", ["logit"], ["score"], {}),
    ]
    shared = {"shift", "none", "axis", "parts", "least", head}

    def own(names: list[str]) -> list[str]:
        return [name if name in shared else f"{head}.{name}" for name in names]

    return [helper.make_node(kind, own(given), own(made), **attributes) for kind, given, made, attributes in steps]
