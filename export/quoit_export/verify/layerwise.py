"""Run a graph piece by piece, so that a model of any size needs the memory of only a layer or two.

The graph is cut behind nodes that give the residual stream. At a cut only two values pass on, [T, hidden] each: the
stream, and its norm if the same node computes it. Every piece becomes a session that runs all batches and is then
freed. The values that pass on stay in memory, in their own type.

If the graph was written, onnxruntime memory-maps the piece's tensors from the file. If it was only authored, the
tensors of a piece are computed when the piece is run. A model that fits into one piece, or has no such node, is run as
it is. The answers are, bit for bit, those of the whole graph. This module does not know what the answers mean.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from tqdm import tqdm

from quoit.engine.layouts.packed import make_inputs
from quoit.engine.planner import Batch
from quoit.machine import usable_cores
from quoit.ort.graph_inputs import Inputs
from quoit.ort.kernels import find_kernels
from quoit.ort.probe import exact_int8
from quoit.ort.sessions import open_session, to_value
from quoit_export.graph.targets import HALVES, RESIDUAL
from quoit_export.precisions.encoding import NATIVE
from quoit_export.precisions.int8 import INTEGER_PRODUCT

PIECE_BYTES = 1 << 30
"""Maximum bytes of the tensors of one piece; a block that has more is a piece of its own."""
CARRIED_BYTES = 1 << 30
"""Maximum bytes that pass between pieces for a group of batches; batches that need more run in several groups."""

BFLOAT16 = "tensor(bfloat16)"
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True)
class Boundary:
    """A place where a graph can be cut.

    Attributes:
        position: the index of the node behind which it lies.
        values: the values that pass on.
        token_bytes: the size of these values in bytes for one token.
    """

    position: int
    values: tuple[ir.Value, ...]
    token_bytes: int


def answers(model: ir.Model, batches: Sequence[Batch], title: str) -> list[NDArray[np.float32]]:
    """Return a graph's answers to each batch, [N, hidden] or [N]; see `run`."""
    return answers_to(model, [make_inputs(batch) for batch in batches], title)


def answers_to(model: ir.Model, feeds: Sequence[Inputs], title: str) -> list[NDArray[np.float32]]:
    """Return a graph's answers to each batch, [N, hidden] or [N], given its inputs; see `run`."""
    name = str(model.graph.outputs[0].name)
    found: dict[int, NDArray[np.float32]] = {}
    for number, outputs in run(model, feeds, title):
        if name in outputs:
            found[number] = outputs[name]
    return [found[number] for number in range(len(feeds))]


def run(
    model: ir.Model, feeds: Sequence[Inputs], title: str, most: int | None = None
) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
    """Run a graph on the CPU, piece by piece.

    Args:
        model: the model, loaded from a file or only authored.
        feeds: the graph's inputs for each batch; `input_ids` is among them.
        title: the title of the progress bar.
        most: maximum bytes of a piece's tensors; by default PIECE_BYTES.

    Yields:
        A batch's number, and the graph outputs that one piece gives for it. In each group of batches, a piece gives its
        outputs for all batches before the next piece runs.
    """
    boundaries = list(find_boundaries(model.graph))
    cuts = choose_cuts(model.graph, boundaries, PIECE_BYTES if most is None else most)
    token_bytes = max((boundary.token_bytes for boundary in boundaries), default=0)
    given = {str(output.name) for output in model.graph.outputs}
    with tqdm(total=(len(cuts) + 1) * len(feeds), desc=title, unit=" batches", disable=None) as bar:
        for numbers in _turns([len(one["input_ids"]) * token_bytes for one in feeds]):
            carried: dict[int, dict[str, Any]] = {number: {} for number in numbers}
            for start, end in zip([None, *cuts], [*cuts, None], strict=True):
                piece = _extract(model.graph, start, end)
                passed = [str(value.name) for value in end.values] if end is not None else []
                session = _open(ir.Model(piece, ir_version=model.ir_version))
                names = [output.name for output in session.get_outputs()]
                for number in numbers:
                    fed = {name: to_value(array) for name, array in feeds[number].items()} | carried[number]
                    outputs = dict(zip(names, session.run_with_ort_values(names, fed), strict=True))
                    carried[number] = {name: _own(outputs[name]) for name in passed}
                    bar.update()
                    yield number, {name: np.array(outputs[name].numpy()) for name in names if name in given}
                del session


def _own(value: Any) -> Any:
    """Return a copy of a value, since the original would keep its session's whole memory arena alive.

    A bfloat16 value is returned as it is, because numpy has no such type.
    """
    if value.data_type() == BFLOAT16:
        return value
    return to_value(np.array(value.numpy()))


def find_boundaries(graph: ir.Graph) -> Iterator[Boundary]:
    """Yield every place where a graph can be cut: behind a node that gives the residual stream."""
    for position, node in enumerate(graph):
        stream = [value for value in node.outputs if str(value.name).startswith(RESIDUAL) and value.uses()]
        if stream:
            yield _boundary(position, stream[0], [value for value in node.outputs if value.uses()])


def _boundary(position: int, stream: ir.Value, passed: Sequence[ir.Value]) -> Boundary:
    """Return a boundary; every value of no known type that passes on gets the stream's type.

    The stream's type and width are known, since they are set where it is named.
    """
    dtype, (_, width) = cast("tuple[ir.DataType, tuple[None, int]]", (stream.dtype, stream.shape))
    for value in passed:
        value.type = value.type or ir.TensorType(dtype)
    return Boundary(position, tuple(passed), int(len(passed) * width * dtype.itemsize))


def choose_cuts(graph: ir.Graph, boundaries: Sequence[Boundary], most: int) -> list[Boundary]:
    """Return the boundaries that cut a graph into as few pieces as possible.

    No piece has tensors of more than `most` bytes, unless it is a single block.
    """
    sizes = [sum(map(_bytes, node.inputs)) for node in graph]
    cuts: list[Boundary] = []
    held, last = 0, -1
    previous: Boundary | None = None
    for boundary in [*boundaries, None]:
        position = len(sizes) - 1 if boundary is None else boundary.position
        block = sum(sizes[last + 1 : position + 1])
        if previous is not None and held + block > most:
            cuts.append(previous)
            held = 0
        held, last, previous = held + block, position, boundary
    return cuts


def _bytes(value: ir.Value | None) -> int:
    """Return a tensor's size in memory in bytes.

    Weights of 16 bits count as float32, since onnxruntime converts them to float32 and keeps them so.
    """
    tensor = None if value is None else value.const_value
    if tensor is None:
        return 0
    return tensor.size * ir.DataType.FLOAT.bitwidth // 8 if tensor.dtype in HALVES else tensor.nbytes


def _turns(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Yield the numbers of all batches in groups of at most CARRIED_BYTES; a larger batch is a group of its own."""
    group: list[int] = []
    held = 0
    for number, size in enumerate(sizes):
        if group and held + size > CARRIED_BYTES:
            yield group
            group, held = [], 0
        group.append(number)
        held += size
    if group:
        yield group


def _extract(graph: ir.Graph, start: Boundary | None, end: Boundary | None) -> ir.Graph:
    """Return a copy of the graph between two boundaries.

    It includes earlier nodes that the piece needs and that depend on the graph's inputs alone.
    """
    if start is None and end is None:
        return graph.clone()
    positions = {node: position for position, node in enumerate(graph)}
    first = -1 if start is None else start.position
    last = len(positions) if end is None else end.position
    producers = [(output, output.producer()) for output in graph.outputs]
    outputs = [output for output, node in producers if node is not None and first < positions[node] <= last]
    outputs += [] if end is None else [value for value in end.values if value not in outputs]
    return ir.convenience.extract(graph, [*graph.inputs, *(() if start is None else start.values)], outputs)


def separate_products(graph: ir.Graph) -> None:
    """Give every integer product a weight of its own name.

    Where sums of int8 products would saturate, onnxruntime replaces the weight of each product by unsigned numbers. It
    fails if two products, such as a second pass, have the same one.
    """
    seen: set[str] = set()
    for node in list(graph):
        if node.op_type != INTEGER_PRODUCT:
            continue
        weight = node.inputs[1]
        assert weight is not None
        name = str(weight.name)
        if name in seen and name in graph.initializers:
            twin = ir.Value(
                name=f"{name}.{len(seen)}", shape=weight.shape, type=weight.type, const_value=weight.const_value
            )
            graph.register_initializer(twin)
            node.replace_input_with(1, twin)
            name = str(twin.name)
        seen.add(name)


def _open(model: ir.Model) -> Any:
    """Open a session of a piece. Tensors that were only authored are computed here, and live as long as the session."""
    config = exact_int8()
    made: dict[str, NDArray[Any]] = {}
    if config:
        separate_products(model.graph)
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            config[EXTERNAL_FOLDER] = str(tensor.base_dir)
        if isinstance(tensor, ir.LazyTensor):
            made[name] = tensor.numpy()
            # The model only records that the tensor is external; the session gets its values as an initializer.
            shape = ir.Shape(tensor.shape)
            value.const_value = ir.ExternalTensor("given", 0, tensor.nbytes, tensor.dtype, shape=shape, name=name)
    kernels = find_kernels(asked=True).library if any(node.domain == NATIVE for node in model.graph) else None
    serialized = ir.to_proto(model).SerializeToString()
    return open_session(serialized, threads=usable_cores(), config=config, initializers=made, kernels=kernels)
