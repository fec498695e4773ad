"""Rewrite a half-precision graph for CPUs: every node computes in float32, and its result is rounded.

CUDA's kernels do the same: they sum in float32 and store in the type between layers. onnxruntime's CPU provider has no
arithmetic for bfloat16. It runs float16 nodes in float32 without rounding in between, so it would hide values that
overflow on a GPU. In the rewritten graph a value beyond the type's range is infinite, as on a GPU. This module does not
know what a node is for.
"""

import onnx_ir as ir

COMPUTING = frozenset({"Add", "MatMul", "MatMulNBits", "Mul", "QuickGelu", "SimplifiedLayerNormalization"})
"""Types of nodes with arithmetic."""
MOVING = frozenset({"Gather", "Reshape", "Split"})
"""Types of nodes that only move values, of any dtype."""


def emulate(graph: ir.Graph, dtype: ir.DataType) -> None:
    """Make the half-precision nodes of a graph compute in float32 and round their results to `dtype`.

    Args:
        graph: the graph, with tensors of `dtype`; values that are cast from it to another type are left alone.
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
    """Replace a node by one with float32 inputs, and return its rounded result, with the old name and place."""
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
