"""Where in a graph the first value that is not finite appears.

The graph gives out the residual stream behind every attention and every MLP. This module does not know why a value is
not finite.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from quoit.batches import Row, plan_batches
from quoit.pipeline import CPU_LIMITS
from quoit.session import feed
from quoit_export.pieces import ADD_NORM, RESIDUAL, run


def first_nonfinite(model: ir.Model, rows: Sequence[Row]) -> str | None:
    """The block whose result is the first that is not finite, such as `layers.3.mlp`, or None where all are.

    Args:
        model: the graph; it is given more outputs.
        rows: token ids to try.
    """
    names: dict[str, str] = {}
    block = "embed_tokens"
    for node in model.graph:
        if node.op_type == ADD_NORM:
            # The norm behind attention is the MLP's, and the norm behind an MLP belongs to what follows.
            weight, residual = node.inputs[2], node.outputs[RESIDUAL]
            if weight is None:
                continue
            layer, _, norm = str(weight.name).removesuffix(".weight").rpartition(".")
            block = f"{layer}.self_attn" if norm == "post_attention_layernorm" else f"{block.rpartition('.')[0]}.mlp"
            residual.type = weight.type
            names[str(residual.name)] = block
            model.graph.outputs.append(residual)
    feeds = [feed(batch) for batch in plan_batches(rows, CPU_LIMITS)]
    for _, outputs in run(model, feeds, "looking for the layer"):
        for name, block in names.items():
            if name in outputs and not np.isfinite(outputs[name]).all():
                return block
    return None
