"""Define the targets that graphs are authored for, and declare the inputs of each target's graph.

| choice      | CPU | half on CPU | CUDA | why                                                                    |
|-------------|-----|-------------|------|------------------------------------------------------------------------|
| packed      | no  | yes         | yes  | CUDA's attention reads q, k and v side by side: one MatMul             |
| fused_norms | no  | no          | yes  | only CUDA's attention normalises the heads of q and k itself           |
| layout      | packed, packed, padded    | CUDA's Gather moves value by value: the way to the rectangle and back  |
|             |                           | took a quarter of a run, more than padding takes; see bench/log/. Its  |
|             |                           | attention needs no tiles: it never holds the whole score matrix        |
| keeps       | yes | no          | no   | CUDA's attention normalises and rotates keys itself; a few tokens less |
|             |     |             |      | save no time there                                                     |
| emulated    | no  | yes         | no   | a CPU has no arithmetic of 16 bits; see `emulation`                    |

Int4 has a graph for CUDA with the same tensors as its graph for CPUs (`weight_only`). Values between linear layers are
bfloat16, whose range needs no fold, and they are not rounded to integers before a product. Its q, k and v are three
products, as its tensors are stored.

Some CPUs add pairs of products in 16 bits, which saturate (x86 without VNNI). For them int8 has one more graph,
`narrow`: activations have 7 bits, so that the largest pair, 2 * 127 * 127, fits.

quoit's own kernels have two graphs more, for CPUs that they run on: `native_attention` has an operator for attention,
with the norms and rotary positions of heads, and the products of onnxruntime; `native` has operators for integer
products too, which round 8 or 7 bits as the CPU's instructions ask.

Gate and up are two products in all other graphs. If they were packed, a Split would copy what the second product writes
anyway.

A half precision has two graphs of the same tensors. One is for CUDA. The nodes of the other can run on a CPU
(`emulation`), and its parity is measured there. Int4 has both, beside its own graph for CPUs. This module does not know
how layers are authored.
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
"""Prefix of the names of the residual stream's values in every graph; the name of the last added block follows."""


@dataclass(frozen=True)
class Target:
    """Choices that differ between graphs.

    Attributes:
        packed: True if one product gives q, k and v.
        fused_norms: True if the attention node normalises the heads of q and k.
        layout: name of the layout in `quoit.engine.layouts`, which declares the inputs.
        keeps: True if the keys and values of a prefix may come from an earlier run.
        emulated: True if nodes compute in float32, and results are rounded.
        narrow: True if integer products read activations of 7 bits.
        weight_only: True if integer weights multiply values that are not rounded to integers; see `weight_only`.
        native: True if attention is quoit's own operator; see `runtime/kernels`.
        native_products: True if integer products are too.
    """

    packed: bool
    fused_norms: bool
    layout: str
    keeps: bool
    emulated: bool
    narrow: bool = False
    weight_only: bool = False
    native: bool = False
    native_products: bool = False


CPU = Target(packed=False, fused_norms=False, layout="packed", keeps=True, emulated=False)
SATURATING = replace(CPU, narrow=True)
NATIVE_ATTENTION = replace(CPU, fused_norms=True, native=True)
NATIVE = replace(NATIVE_ATTENTION, native_products=True)
HALF_ON_CPU = Target(packed=True, fused_norms=False, layout="packed", keeps=False, emulated=True)
CUDA = Target(packed=True, fused_norms=True, layout="padded", keeps=False, emulated=False)
WEIGHT_ONLY_ON_CPU = replace(HALF_ON_CPU, packed=False, weight_only=True)
WEIGHT_ONLY = replace(CUDA, packed=False, weight_only=True)


def cpu_target(dtype: ir.DataType) -> Target:
    """Return the target of a graph that CPUs run, by the type of the values between its linear layers."""
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
    """Inputs of a graph as values.

    Attributes:
        required: the required inputs by name, in order; the layout defines their meaning.
        prefix: the inputs of a cached prefix; None if the target takes none.
    """

    required: dict[str, ir.Value]
    prefix: "PrefixInputs | None"

    def __getitem__(self, name: str) -> ir.Value:
        """Return a required input."""
        return self.required[name]

    def get(self, name: str) -> ir.Value | None:
        """Return a required input, or None if the layout has none of that name."""
        return self.required.get(name)

    @property
    def all(self) -> list[ir.Value]:
        """All inputs, in order."""
        return [*self.required.values(), *([] if self.prefix is None else self.prefix.all)]


@dataclass(frozen=True)
class PrefixInputs:
    """Inputs of a cached prefix, each empty by default.

    Attributes:
        kept_row: the stream rows whose keys and values to output, [K] int64.
        past: the keys and the values of each layer, [P, kv_heads * head_dim].
    """

    kept_row: ir.Value
    past: list[list[ir.Value]]

    @property
    def all(self) -> list[ir.Value]:
        """All inputs, in order."""
        return [self.kept_row, *(value for pair in self.past for value in pair)]


def declare_inputs(target: Target, config: AttentionConfig) -> GraphInputs:
    """Return the inputs of a target's graph, as its layout declares them."""
    contract = find_layout(target.layout).contract
    return GraphInputs(
        required={one.name: declare(one) for one in contract.required},
        prefix=declare_prefix(contract.prefix, config) if target.keeps else None,
    )


def declare_prefix(inputs: Sequence[GraphInput], config: AttentionConfig) -> PrefixInputs:
    """Return the inputs of a cached prefix; the default of each is an empty initializer of the same name."""
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
    """Return one input as a value."""
    return ir.val(one.name, DTYPES[one.dtype], list(one.shape))
