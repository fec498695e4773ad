"""Find the first block of a graph whose result is not finite.

The graph is made to output the residual stream behind every attention and every MLP. This module does not know why a
value is not finite.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from quoit.engine.layouts.packed import make_inputs
from quoit.engine.limits import row_limits
from quoit.engine.planner import Row, plan_batches
from quoit_export.graph.targets import RESIDUAL
from quoit_export.verify.layerwise import run


def first_nonfinite(model: ir.Model, rows: Sequence[Row]) -> str | None:
    """Return the first block whose result is not finite, such as `layers.3.mlp`, or None if all results are finite.

    Args:
        model: the graph; more outputs are added to it.
        rows: the token ids to run.
    """
    names = list(_probe(model.graph))
    feeds = [make_inputs(batch) for batch in plan_batches(rows, row_limits(rows))]
    for _, outputs in run(model, feeds, "looking for the layer"):
        for name in names:
            if name in outputs and not np.isfinite(outputs[name]).all():
                return name
    return None


def _probe(graph: ir.Graph) -> Iterator[str]:
    """Add the stream behind each block to a graph's outputs, in float32 and with the block's name; yield the names."""
    for node in list(graph):
        for value in node.outputs:
            if str(value.name).startswith(RESIDUAL):
                wide = ir.node("Cast", [value], {"to": ir.DataType.FLOAT})
                (result,) = wide.outputs
                result.name, result.dtype = str(value.name).removeprefix(RESIDUAL), ir.DataType.FLOAT
                graph.insert_after(node, wide)
                graph.outputs.append(result)
                yield result.name
