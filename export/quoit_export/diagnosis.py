"""Where in a graph the first value that is not finite appears.

A copy of the graph, beside the original and with its tensors, gives out the residual stream behind every attention
and every MLP. This module does not know why a value is not finite.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx_ir as ir

from quoit.batches import Row, plan_batches
from quoit.pipeline import CPU_LIMITS
from quoit.session import ONNX_NAMES, feed, onnxruntime
from quoit_export.targets import RESIDUAL

PROBE = "probe.onnx"


def first_nonfinite(graph: Path, rows: Iterable[Row]) -> str | None:
    """The block whose result is the first that is not finite, such as `layers.3.mlp`, or None where all are.

    Args:
        graph: a model.onnx of an artifact, in a folder that can be written.
        rows: token ids to try, one row after another until one fails.
    """
    model = ir.load(graph)
    stream = [output for node in model.graph for output in node.outputs if str(output.name).startswith(RESIDUAL)]
    model.graph.outputs.extend(stream)
    names = {str(output.name): str(output.name).removeprefix(RESIDUAL) for output in stream}
    probe = graph.with_name(PROBE)
    try:
        ir.save(model, probe)
        session = onnxruntime().InferenceSession(str(probe), providers=[ONNX_NAMES["cpu"]])
        for row in rows:
            (batch,) = plan_batches([row], CPU_LIMITS)
            for name, values in zip(names, session.run(list(names), feed(batch)), strict=True):
                if not np.isfinite(values).all():
                    return names[name]
    finally:
        probe.unlink(missing_ok=True)
    return None
