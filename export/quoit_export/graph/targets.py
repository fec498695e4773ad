"""What a graph is authored for, and the inputs that follow from it.

| choice      | CPU | half on CPU | CUDA | why                                                                    |
|-------------|-----|-------------|------|------------------------------------------------------------------------|
| packed      | no  | yes         | yes  | CUDA's attention reads q, k and v side by side: one MatMul             |
| fused_norms | no  | no          | yes  | only CUDA's attention normalises the heads of q and k itself           |
| gathers     | yes | yes         | no   | CUDA's Gather moves value by value: to the rectangle and back took a   |
|             |     |             |      | quarter of a run, more than padding does; see bench/log/               |
| tiles       | yes | yes         | no   | CUDA's attention never holds the whole score matrix                    |
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

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from quoit.artifact import Architecture

HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
RESIDUAL = "residual."
"""Begins the names of the residual stream's values in every graph; behind it stands the block that was added last."""


@dataclass(frozen=True)
class Target:
    """Choices that differ between graphs.

    Attributes:
        packed: q, k and v come out of one product.
        fused_norms: the attention node normalises the heads of q and k.
        gathers: the stream has no padding and each shared prefix once, and attention's rectangle is gathered from it;
            otherwise the stream is the rectangle, padding and all.
        tiles: attention is either tiled or on the full score matrix, as an input tells.
        keeps: the keys and values of a prefix may come from an earlier run.
        emulated: nodes compute in float32, and results are rounded.
        narrow: integer products read activations of 7 bits.
        weight_only: integer weights multiply values that are not rounded to integers; see `weight_only`.
    """

    packed: bool
    fused_norms: bool
    gathers: bool
    tiles: bool
    keeps: bool
    emulated: bool
    narrow: bool = False
    weight_only: bool = False


CPU = Target(packed=False, fused_norms=False, gathers=True, tiles=True, keeps=True, emulated=False)
SATURATING = replace(CPU, narrow=True)
HALF_ON_CPU = Target(packed=True, fused_norms=False, gathers=True, tiles=True, keeps=False, emulated=True)
CUDA = Target(packed=True, fused_norms=True, gathers=False, tiles=False, keeps=False, emulated=False)
WEIGHT_ONLY_ON_CPU = replace(HALF_ON_CPU, packed=False, weight_only=True)
WEIGHT_ONLY = replace(CUDA, packed=False, weight_only=True)


def cpu_target(dtype: ir.DataType) -> Target:
    """The target of a graph that CPUs run, by the type of the values between its linear layers."""
    return HALF_ON_CPU if dtype in HALVES else CPU


@dataclass(frozen=True)
class Inputs:
    """A graph's inputs; shapes and meanings in `graph`. None are those that its target does not have.

    Attributes:
        kept: those that have a default: the kept prefix's, of targets that keep one.
    """

    input_ids: ir.Value
    attention_index: ir.Value | None
    row_lengths: ir.Value
    stream_slot: ir.Value | None
    last_row: ir.Value
    tiled_attention: ir.Value | None
    longest_row: ir.Value | None
    rectangle: ir.Value | None
    kept: "KeptInputs | None"

    @property
    def all(self) -> list[ir.Value]:
        """Those that there are, in order."""
        *required, kept = vars(self).values()
        return [value for value in required if value is not None] + ([] if kept is None else kept.all)


@dataclass(frozen=True)
class KeptInputs:
    """The inputs of a kept prefix, each empty by default.

    Attributes:
        kept_row: [K] int64.
        past: of each layer the keys and the values, [P, kv_heads * head_dim].
    """

    kept_row: ir.Value
    past: list[tuple[ir.Value, ir.Value]]

    @property
    def all(self) -> list[ir.Value]:
        """All of them, in order."""
        return [self.kept_row, *(value for pair in self.past for value in pair)]


def make_inputs(target: Target, numbers: Architecture) -> Inputs:
    """The inputs of a target's graph as values."""
    return Inputs(
        input_ids=ir.val("input_ids", ir.DataType.INT64, ["T"]),
        attention_index=ir.val("attention_index", ir.DataType.INT64, ["R", "S"]) if target.gathers else None,
        row_lengths=ir.val("row_lengths", ir.DataType.INT32, ["R"]),
        stream_slot=ir.val("stream_slot", ir.DataType.INT64, ["T"]) if target.gathers else None,
        last_row=ir.val("last_row", ir.DataType.INT64, ["N"]),
        tiled_attention=ir.val("tiled_attention", ir.DataType.BOOL, []) if target.tiles else None,
        longest_row=None if target.gathers else ir.val("longest_row", ir.DataType.INT32, []),
        rectangle=None if target.gathers else ir.val("rectangle", ir.DataType.INT64, [3]),
        kept=make_kept_inputs(numbers) if target.keeps else None,
    )


def make_kept_inputs(numbers: Architecture) -> KeptInputs:
    """The inputs of a kept prefix, with an initializer of their own name as their default."""

    def empty(name: str, dtype: ir.DataType, shape: list[str | int]) -> ir.Value:
        sizes = [0 if isinstance(axis, str) else axis for axis in shape]
        value = ir.val(name, dtype, shape)
        value.const_value = ir.tensor(np.empty(sizes, dtype.numpy()), name=name)
        return value

    width = numbers.num_key_value_heads * numbers.head_dim
    return KeptInputs(
        kept_row=empty("kept_row", ir.DataType.INT64, ["K"]),
        past=[
            (
                empty(f"past_key_values.{layer}.key", ir.DataType.FLOAT, ["P", width]),
                empty(f"past_key_values.{layer}.value", ir.DataType.FLOAT, ["P", width]),
            )
            for layer in range(numbers.num_hidden_layers)
        ],
    )
