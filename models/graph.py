"""The model as an ONNX graph: numbers of buckets in, a score for each head out."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.linear import Linear

_OPSET, _IR = 17, 8
"""Old enough for any onnxruntime of the last years."""


def graph(model: Linear, heads: tuple[str, ...]) -> bytes:
    """The serialised graph, the same bytes for the same model.

    Input `ids`: int64 (texts, any), buckets padded with 0. Output `scores`: float32 (texts, heads). The table is stored
    in float16, which halves the file and moves no score by more than 0.001 or so.
    """
    table = model.table.astype(np.float16)
    table[0] = 0
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(model.bias.astype(np.float32), "bias"),
        numpy_helper.from_array(model.power.astype(np.float32), "power"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
        numpy_helper.from_array(np.array([len(heads), 1], np.int64), "parts"),
        numpy_helper.from_array(np.array(1, np.float32), "least"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["halves"], axis=0),
        helper.make_node("Cast", ["halves"], ["found"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["found", "axis"], ["sums"], keepdims=0),
        helper.make_node("Split", ["sums", "parts"], ["weights", "squares"], axis=1),
        helper.make_node("Max", ["squares", "least"], ["positive"]),
        helper.make_node("Pow", ["positive", "power"], ["lengths"]),
        helper.make_node("Div", ["weights", "lengths"], ["damped"]),
        helper.make_node("Add", ["damped", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
    ]
    built = helper.make_model(
        helper.make_graph(
            nodes,
            "guard",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["texts", "buckets"])],
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
