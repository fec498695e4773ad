"""A half-precision graph as a CPU can run it: every node computes in float32, and its result is rounded.

That is what CUDA's kernels do, which sum in float32 and store in the type between layers. onnxruntime's CPU provider
has no arithmetic for bfloat16, and runs float16 nodes in float32 without rounding in between, so that what overflows on
a GPU passes unseen. Here a value beyond the type's range is infinite, as it is there. This module does not know what a
node is for.
"""

import onnx_ir as ir

COMPUTING = frozenset({"Add", "MatMul", "MatMulNBits", "Mul", "QuickGelu", "SimplifiedLayerNormalization"})
"""Nodes with arithmetic."""
MOVING = frozenset({"Gather", "Reshape", "Split"})
"""Nodes that only move values, of any type."""


def emulate(graph: ir.Graph, dtype: ir.DataType) -> None:
    """Makes the nodes of a graph compute in float32 what they are to compute in a half precision.

    Args:
        graph: one whose tensors are of `dtype`; what is cast from it to another type is left alone.
        dtype: float16 or bfloat16.
    """
    halves = {value for value in graph.initializers.values() if value.dtype == dtype}
    wide: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        inputs = [value for value in node.inputs if value in halves]
        if node.op_type == "Cast" and node.attributes["to"].as_int() == dtype:
            halves.update(node.outputs)
        if not inputs:
            continue
        if node.op_type in MOVING:
            halves.update(node.outputs)
        elif node.op_type in COMPUTING:
            for value in inputs:
                if value not in wide:
                    wide[value] = _cast(graph, node, value, ir.DataType.FLOAT)
            halves.add(_round(graph, node, wide, dtype))


def _cast(graph: ir.Graph, before: ir.Node, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    node = ir.node("Cast", [value], {"to": dtype}, name=f"wide.{value.name}")
    node.outputs[0].name = f"wide.{value.name}"
    graph.insert_before(before, node)
    return node.outputs[0]


def _round(graph: ir.Graph, node: ir.Node, wide: dict[ir.Value, ir.Value], dtype: ir.DataType) -> ir.Value:
    """A node's result of float32 inputs, rounded; it takes the old result's name and place."""
    (old,) = node.outputs
    inputs = [value if value is None else wide.get(value, value) for value in node.inputs]
    computing = ir.node(node.op_type, inputs, node.attributes, domain=node.domain, name=node.name)
    rounding = ir.node("Cast", computing.outputs, {"to": dtype}, name=f"round.{node.name}")
    (result,) = rounding.outputs
    computing.outputs[0].name = f"exact.{old.name}"
    result.name, result.shape, result.type = old.name, old.shape, old.type
    graph.insert_before(node, [computing, rounding])
    old.replace_all_uses_with(result)
    graph.remove(node, safe=True)
    return result
