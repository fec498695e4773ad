"""Join nodes of a graph with quoit's own operators, where one operator does the work of both; see `runtime/kernels`."""

import onnx_ir as ir

from quoit_export.precisions.encoding import NATIVE


def join(graph: ir.Graph) -> None:
    """Replace each norm of a sum, and the rounding of it, by one operator, where nothing else reads the norm."""
    for rounding in [node for node in graph if node.op_type == "QuantizeRows1"]:
        normed = rounding.inputs[0]
        norm = None if normed is None else normed.producer()
        if normed is None or norm is None or norm.op_type != "SkipSimplifiedLayerNormalization":
            continue
        if len(normed.uses()) > 1:
            continue
        total = norm.outputs[3]
        joined = ir.node(
            "AddNormQuantizeRows1",
            norm.inputs[:3],
            attributes={**rounding.attributes, "epsilon": norm.attributes["epsilon"]},
            domain=NATIVE,
            num_outputs=5,
            name=norm.name,
        )
        before, after = [*rounding.outputs, total], joined.outputs
        graph.insert_before(norm, joined)
        for old, new in zip(before, after, strict=True):
            new.name, new.type, new.shape = old.name, old.type, old.shape
        ir.convenience.replace_all_uses_with(before, list(after))
        graph.remove([norm, rounding], safe=True)
