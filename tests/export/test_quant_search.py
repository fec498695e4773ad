"""The choice of folds: the least predicted error wins, and what is not good enough is stored otherwise."""

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from architectures import architecture_of
from quoit.artifact import Artifact, Calibration
from quoit_export.checkpoint.checkpoint import Checkpoint
from quoit_export.checkpoint.weights import EMBEDDINGS
from quoit_export.families.qwen3 import architecture_of as qwen3_architecture
from quoit_export.precisions.encoding import ReadTensor
from quoit_export.precisions.int4 import Int4Encoding
from quoit_export.precisions.int8 import Int8Encoding
from quoit_export.quantize.calibration import Activations, Observed, built_in_texts, calibration_rows, observe
from quoit_export.quantize.folding import Folding, make_rotation
from quoit_export.quantize.methods import MAX_ERROR, METHODS, NEARLY, SEED, Bits, Method, _spaced
from quoit_export.quantize.quant_error import (
    INT4,
    INT8_TWICE,
    as_float16,
    as_int8,
    in_steps,
    input_error,
    table_error,
)
from quoit_export.quantize.quant_search import MAX_STEP_ERROR, choose, examine
from quoit_export.verify.parity import load_variant
from random_checkpoint import SHAPES

RECORD = Calibration("built-in", "0" * 64, 64, 1000)


@pytest.fixture(scope="module")
def activations(artifact: Artifact) -> Activations:
    return observe(
        load_variant(artifact, "fp32"), architecture_of(artifact), calibration_rows(artifact, built_in_texts())
    )[0]


def test_fewer_layers_are_compared_where_they_are_large() -> None:
    """The first and the last are always among them."""
    compared = {shape: _spaced(qwen3_architecture(config)) for shape, config in SHAPES.items()}
    assert {shape: len(layers) for shape, layers in compared.items()} == {"tiny": 3, "0.6b": 8, "4b": 5, "8b": 3}
    assert compared["8b"] == {0, 18, 35}


def with_changes(checkpoint: Checkpoint, **changes: NDArray[np.float32]) -> ReadTensor:
    """The checkpoint's tensors but for some, whose names have _ for dots."""
    return lambda name: changes[name] if name in changes else checkpoint.tensor(name)


def test_steps_are_fixed_behind_the_norms_of_a_rotated_stream_alone(
    checkpoint: Checkpoint, activations: Activations
) -> None:
    """Where the error that they lead to is small, and wide enough for every observed row."""
    read, architecture = checkpoint.tensor, checkpoint.architecture
    unrotated = choose(Observed(read, architecture, activations, RECORD), [Method(0.5)])
    assert unrotated.record.steps == {}
    plan = choose(Observed(read, architecture, activations, RECORD), [Method(0.5, rotated=True)])
    normed = [one.name for one in architecture.inputs if one.norm is not None]
    assert plan.record.steps
    for name in normed:
        rows = plan.folding.activations(read, name, activations.rows[name])
        step = plan.record.steps.get(name, 1.1 * np.abs(rows).max() / 127)
        assert np.abs(rows).max() < 127 * step
        error = input_error(plan.folding, read, name, activations, in_steps(step))
        assert (error <= MAX_STEP_ERROR) is (name in plan.record.steps)


def test_of_methods_that_are_about_as_good_a_rotated_one_is_taken(
    checkpoint: Checkpoint, activations: Activations
) -> None:
    methods = [Method(0.5), Method(0.5, heads=True), Method(0.5, rotated=True)]
    record = choose(Observed(checkpoint.tensor, checkpoint.architecture, activations, RECORD), methods).record
    rotated = record.errors["rotate + smooth 0.5"]
    assert record.method.startswith("rotate") is (rotated <= NEARLY * min(record.errors.values()))


def test_the_least_error_is_chosen_and_all_are_recorded(checkpoint: Checkpoint, activations: Activations) -> None:
    plan = choose(Observed(checkpoint.tensor, checkpoint.architecture, activations, RECORD))
    record = plan.record
    assert list(record.errors) == [method.name for method in METHODS]
    assert record.errors[record.method] <= NEARLY * min(record.errors.values())
    assert record.calibration == RECORD
    assert record.float32_layers == ()
    assert plan.encoding == Int8Encoding(steps=record.steps, int8_table=True)
    chosen = next(method for method in METHODS if method.name == record.method)
    assert record.alpha == chosen.alpha
    assert (record.seed == SEED) is (chosen.rotated or chosen.heads)
    assert (plan.folding.stream is not None, plan.folding.heads is not None) == (chosen.rotated, chosen.heads)
    assert record.describe().startswith(f"{record.method}: predicted error ")
    ruined = msgspec.structs.replace(record, method="plain", errors={"plain": 2e-4, "smooth 0.5": 1e-3, "rotate": 7e21})
    assert "predicted error 2.00e-04, 1.00e-03 to >1 for 2 other methods" in ruined.describe()
    again = choose(Observed(checkpoint.tensor, checkpoint.architecture, activations, RECORD))
    assert again.record == record


def test_one_method_alone_is_taken(checkpoint: Checkpoint, activations: Activations) -> None:
    plan = choose(Observed(checkpoint.tensor, checkpoint.architecture, activations, RECORD), [Method()])
    assert plan.record.method == "plain"
    assert plan.record.errors.keys() == {"plain"}
    assert (plan.record.alpha, plan.record.seed) == (None, None)
    assert "other" not in plan.record.describe()


def test_what_no_method_makes_good_stays_in_float32(checkpoint: Checkpoint, activations: Activations) -> None:
    """Two inner channels that are the same, and columns ten thousand times too large that cancel."""
    name = "layers.1.mlp.down_proj"
    rows = activations.rows[name].copy()
    rows[:, 1] = rows[:, 0]
    down = checkpoint.tensor(f"{name}.weight").astype(np.float32)
    large = 1e4 * down.std() * np.random.default_rng(0).standard_normal(len(down)).astype(np.float32)
    down[:, 1], down[:, 0] = -large, down[:, 0] + large
    largest = activations.largest | {name: np.abs(rows).max(axis=0).astype(np.float64)}
    changed = Activations(largest, activations.rows | {name: rows})
    read = with_changes(checkpoint, **{f"{name}.weight": down})
    plan = choose(Observed(read, checkpoint.architecture, changed, RECORD))
    assert plan.record.float32_layers == (name,)
    assert plan.record.describe().startswith(f"{plan.record.method}, 1 linear layers in float32: ")
    assert all(error > MAX_ERROR[8] / 12 for error in plan.record.errors.values())


def test_inputs_are_kept_in_float32_with_all_that_read_them(checkpoint: Checkpoint, activations: Activations) -> None:
    """Rows that are not finite are nothing that int8 could hold."""
    name = "layers.0.self_attn.q_proj"
    broken = Activations(activations.largest, activations.rows | {name: activations.rows[name] * np.nan})
    with np.errstate(invalid="ignore"):
        plan = choose(Observed(checkpoint.tensor, checkpoint.architecture, broken, RECORD), [Method()])
    assert plan.record.float32_layers == tuple(f"layers.0.self_attn.{part}_proj" for part in "qkv")


def test_a_towering_channel_of_the_token_table_speaks_against_rotation(
    checkpoint: Checkpoint, activations: Activations
) -> None:
    """Norms hold it back; spread over all channels, it would take float16's digits from them."""
    architecture = checkpoint.architecture
    table = checkpoint.tensor(EMBEDDINGS).astype(np.float32)
    table[:, 5] = 2000 * table.std()
    changes = {EMBEDDINGS: table}
    for name in [
        "norm.weight",
        *(f"layers.{i}.{n}_layernorm.weight" for i in range(3) for n in ("input", "post_attention")),
    ]:
        changes[name] = checkpoint.tensor(name).astype(np.float32)
        changes[name][5] = 0
    read = with_changes(checkpoint, **changes)
    inputs = list(architecture.input)
    rotated = Folding(architecture, stream=make_rotation(architecture.dimension, SEED))
    assert table_error(rotated, checkpoint.tensor, inputs, as_float16) < 1e-6
    assert table_error(rotated, read, inputs, as_float16) > 1e-3
    assert table_error(Folding(architecture), read, inputs, as_float16) < 1e-6
    plan = choose(Observed(read, architecture, activations, RECORD))
    assert plan.folding.stream is None
    assert not plan.record.int8_table, "int8 rows would drown in it too"
    assert table_error(Folding(architecture), read, inputs, as_int8) > 1e-3


def test_a_table_beyond_float16_has_no_finite_error(checkpoint: Checkpoint) -> None:
    architecture = checkpoint.architecture
    read = with_changes(checkpoint, **{EMBEDDINGS: checkpoint.tensor(EMBEDDINGS).astype(np.float32) * 1e7})
    for stream in (None, make_rotation(architecture.dimension, SEED)):
        assert table_error(Folding(architecture, stream=stream), read, list(architecture.input), as_float16) == np.inf


def test_int4_stores_in_int8_what_errs_most(checkpoint: Checkpoint, activations: Activations) -> None:
    """A column that towers over the others of each block leaves them no digits in four bits."""
    name = "layers.1.mlp.down_proj"
    weight = checkpoint.tensor(f"{name}.weight").astype(np.float32)
    weight[:, 3::32] *= 8
    rows = activations.rows[name].copy()
    rows[:, 3::32] = 0
    changed = Activations(activations.largest, activations.rows | {name: rows})
    read = with_changes(checkpoint, **{f"{name}.weight": weight})
    plan = choose(Observed(read, checkpoint.architecture, changed, RECORD), [Method()], bits=4)
    assert name in plan.record.int8_layers
    others = [linear for one in checkpoint.architecture.inputs for linear in one.linears]
    assert len(plan.record.int8_layers) < len(others) / 2
    assert plan.record.float32_layers == ()
    assert f", {len(plan.record.int8_layers)} in int8: predicted" in plan.record.describe()
    assert isinstance(plan.encoding, Int4Encoding)
    assert plan.encoding.int8_layers == frozenset(plan.record.int8_layers)
    for other in checkpoint.architecture.input:
        error = input_error(plan.folding, read, other, changed, INT4)
        assert (error > MAX_ERROR[4]) is (other in plan.record.int8_layers)


@pytest.mark.parametrize("bits", [8, 4])
def test_the_worst_inputs_are_spared(checkpoint: Checkpoint, activations: Activations, bits: Bits) -> None:
    architecture = checkpoint.architecture
    observed = Observed(checkpoint.tensor, architecture, activations, RECORD)
    inputs = list(architecture.input)
    arithmetic = INT8_TWICE if bits == 8 else INT4
    examined = examine(observed, Method(), {"plain": 1.0}, bits)
    plan = examined.plan(spared=0.25)
    errors = {name: input_error(plan.folding, checkpoint.tensor, name, activations, arithmetic) for name in inputs}
    worst = sorted(inputs, key=errors.__getitem__)[-3:]
    expected = [linear for name in inputs if name in worst for linear in architecture.input[name].linears]
    assert len(inputs) == 12
    assert list(plan.record.float32_layers if bits == 8 else plan.record.int8_layers) == expected
    assert (plan.record.int8_layers if bits == 8 else plan.record.float32_layers) == ()
    assert examined.plan(spared=1.0).record.float32_layers == (
        tuple(linear for name in inputs for linear in architecture.input[name].linears) if bits == 8 else ()
    )
