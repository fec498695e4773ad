"""What a graph is authored for, and the inputs that follow from it.

| choice      | CPU | half on CPU | CUDA | why                                                                    |
|-------------|-----|-------------|------|------------------------------------------------------------------------|
| packed      | no  | yes         | yes  | CUDA's attention reads q, k and v side by side: one MatMul             |
| fused_norms | no  | no          | yes  | only CUDA's attention normalises the heads of q and k itself           |
| layout      | packed, packed, padded    | CUDA's Gather moves value by value: to the rectangle and back took a   |
|             |                           | quarter of a run, more than padding does; see bench/log/. And its     |
|             |                           | attention needs no tiles: it never holds the whole score matrix        |
| keeps       | yes | no          | no   | CUDA's attention normalises and turns keys itself; a few tokens less   |
|             |     |             |      | are no time there                                                      |
| emulated    | no  | yes         | no   | a CPU has no arithmetic of 16 bits; see `emulation`                    |

Int4 has a graph for CUDA with the tensors of its graph for CPUs, `weight_only`: values between linear layers are
bfloat16, whose range needs no fold, and weights are multiplied as such. Its q, k and v are three products, as its
tensors are stored.

Where a CPU adds pairs of products in 16 bits, which saturate (x86 without VNNI), int8 needs `narrow` besides:
activations of 7 bits, whose largest pair, 2 * 127 * 127, fits.

Gate and up are two products everywhere: packed, a Split would copy what the second product writes anyway.

A half precision has two graphs of the same tensors: CUDA's, and one whose nodes a CPU can run (`emulation`), on which
its parity is measured. Int4 has both beside its own for CPUs. This module does not know how layers are authored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from quoit.engine.layouts import find_layout
from quoit.ort.graph_inputs import Dtype, GraphInput
from quoit_export.graph.architecture import AttentionConfig

HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
RESIDUAL = "residual."
"""Begins the names of the residual stream's values in every graph; behind it stands the block that was added last."""


@dataclass(frozen=True)
class Target:
    """Choices that differ between graphs.

    Attributes:
        packed: q, k and v come out of one product.
        fused_norms: the attention node normalises the heads of q and k.
        layout: the name of the layout in `quoit.engine.layouts`, which declares the inputs.
        keeps: the keys and values of a prefix may come from an earlier run.
        emulated: nodes compute in float32, and results are rounded.
        narrow: integer products read activations of 7 bits.
        weight_only: integer weights multiply values that are not rounded to integers; see `weight_only`.
    """

    packed: bool
    fused_norms: bool
    layout: str
    keeps: bool
    emulated: bool
    narrow: bool = False
    weight_only: bool = False


CPU = Target(packed=False, fused_norms=False, layout="packed", keeps=True, emulated=False)
SATURATING = replace(CPU, narrow=True)
HALF_ON_CPU = Target(packed=True, fused_norms=False, layout="packed", keeps=False, emulated=True)
CUDA = Target(packed=True, fused_norms=True, layout="padded", keeps=False, emulated=False)
WEIGHT_ONLY_ON_CPU = replace(HALF_ON_CPU, packed=False, weight_only=True)
WEIGHT_ONLY = replace(CUDA, packed=False, weight_only=True)


def cpu_target(dtype: ir.DataType) -> Target:
    """The target of a graph that CPUs run, by the type of the values between its linear layers."""
    return HALF_ON_CPU if dtype in HALVES else CPU


DTYPES: dict[Dtype, ir.DataType] = {
    "int64": ir.DataType.INT64,
    "int32": ir.DataType.INT32,
    "float32": ir.DataType.FLOAT,
    "bool": ir.DataType.BOOL,
}
LAYER = "{layer}"


@dataclass(frozen=True)
class GraphInputs:
    """A graph's inputs as values.

    Attributes:
        required: by name, in order; the layout says what they mean.
        prefix: those of a cached prefix; None where the target takes none.
    """

    required: dict[str, ir.Value]
    prefix: "PrefixInputs | None"

    def __getitem__(self, name: str) -> ir.Value:
        """A required input."""
        return self.required[name]

    def get(self, name: str) -> ir.Value | None:
        """A required input; None where the layout has none of that name."""
        return self.required.get(name)

    @property
    def all(self) -> list[ir.Value]:
        """All of them, in order."""
        return [*self.required.values(), *([] if self.prefix is None else self.prefix.all)]


@dataclass(frozen=True)
class PrefixInputs:
    """The inputs of a cached prefix, each empty by default.

    Attributes:
        kept_row: [K] int64.
        past: of each layer the keys and the values, [P, kv_heads * head_dim].
    """

    kept_row: ir.Value
    past: list[list[ir.Value]]

    @property
    def all(self) -> list[ir.Value]:
        """All of them, in order."""
        return [self.kept_row, *(value for pair in self.past for value in pair)]


def declare_inputs(target: Target, config: AttentionConfig) -> GraphInputs:
    """The inputs of a target's graph, as its layout declares them."""
    contract = find_layout(target.layout).contract
    return GraphInputs(
        required={one.name: declare(one) for one in contract.required},
        prefix=declare_prefix(contract.prefix, config) if target.keeps else None,
    )


def declare_prefix(inputs: Sequence[GraphInput], config: AttentionConfig) -> PrefixInputs:
    """The inputs of a cached prefix, with an empty initializer of their own name as their default."""
    sizes = {"kv_width": config.num_key_value_heads * config.head_dim}

    def empty(one: GraphInput, layer: int | None = None) -> ir.Value:
        shape = tuple(sizes.get(str(axis), axis) for axis in one.shape)
        value = declare(replace(one, name=one.name.replace(LAYER, str(layer)), shape=shape))
        zeros = [0 if isinstance(axis, str) else axis for axis in shape]
        value.const_value = ir.tensor(np.empty(zeros, DTYPES[one.dtype].numpy()), name=value.name)
        return value

    (kept_row,) = (one for one in inputs if LAYER not in one.name)
    past = [one for one in inputs if LAYER in one.name]
    layers = range(config.num_hidden_layers)
    return PrefixInputs(empty(kept_row), [[empty(one, layer) for one in past] for layer in layers])


def declare(one: GraphInput) -> ir.Value:
    """One input."""
    return ir.val(one.name, DTYPES[one.dtype], list(one.shape))
