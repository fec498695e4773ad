"""A precision is one entry in the table of each program, and one encoding."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import cast, get_args

import numpy as np
import onnx_ir as ir
import pytest

from quoit.artifact import Artifact, Precision, ProviderName
from quoit.precisions import PRECISIONS as RUN
from quoit.precisions import PREFERRED
from quoit.tuning.roofline import Ceilings, Work, least_seconds
from quoit_export.build.staging import Staging, bare_manifest
from quoit_export.build.variants import Making, with_variants
from quoit_export.checkpoint.checkpoint import open_checkpoint
from quoit_export.cli import make_parser
from quoit_export.precisions.encoding import Author, OneByOne, Rows
from quoit_export.precisions.int8 import Int8Encoding
from quoit_export.precisions.table import DEFAULTS, PRECISIONS, REFERENCE, PrecisionSpec
from quoit_export.quantize.calibration import built_in_texts
from quoit_export.verify.parity import held_out, variant_answers

NAMES = get_args(Precision)
TABLES = ("quoit/precisions.py", "quoit_export/precisions/table.py")


def test_both_tables_have_every_precision() -> None:
    assert tuple(RUN) == tuple(PRECISIONS) == NAMES


def test_every_precision_has_its_place_in_the_order_of_preference() -> None:
    """A CPU runs all of them; CUDA runs those that have a graph for it."""
    assert set(PREFERRED) == set(get_args(ProviderName))
    for provider, names in PREFERRED.items():
        assert [RUN[name].ranks[provider] for name in names] == list(range(1, len(names) + 1))
    assert set(PREFERRED["cpu"]) == set(NAMES)
    assert set(PREFERRED["cuda"]) == {name for name, spec in PRECISIONS.items() if "cuda" in spec.graphs}
    assert PREFERRED == {"cpu": ("int8", "int4", "fp32", "fp16", "bf16"), "cuda": ("fp16", "bf16", "int4")}


def test_integer_products_have_a_graph_for_cpus_whose_sums_saturate() -> None:
    for name, spec in PRECISIONS.items():
        assert RUN[name].integer_products == ("saturating" in spec.graphs) == (spec.bits is not None)


def test_the_entries_of_a_precision_agree_with_its_encoding() -> None:
    for name, spec in PRECISIONS.items():
        if spec.bits is None:
            assert RUN[name].weight_bytes == spec.encoding.dtype.itemsize
        assert ("cuda" in spec.graphs) == (spec.weight_only or spec.encoding.dtype != ir.DataType.FLOAT)
        assert ("emulated" in spec.graphs) == spec.weight_only
        assert not (spec.scaled and spec.bits is not None)
        assert spec.mean_floors.keys() <= {*spec.floors, "top10"}
    assert REFERENCE in DEFAULTS
    assert set(DEFAULTS) <= set(NAMES)


def test_the_command_line_names_the_calibrated_precisions() -> None:
    calibrated = " and ".join(name for name, spec in PRECISIONS.items() if spec.calibrated)
    assert f"texts to make {calibrated} with" in " ".join(make_parser().format_help().split())


def compared_names(module: Path) -> set[str]:
    """The names of precisions that a module compares with, uses as keys, or matches."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        parts: Sequence[ast.AST | None] = ()
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        elif isinstance(node, ast.Subscript):
            parts = [node.slice]
        for part in parts:
            constants = part.elts if isinstance(part, ast.Tuple | ast.List | ast.Set) else [part]
            found |= {str(one.value) for one in constants if isinstance(one, ast.Constant)}
    return found & set(NAMES)


PLACES = {
    "quoit/artifact": set(NAMES),  # the Literal itself
    "quoit/engine/pooling.py": {"int8"},  # a type of output values
    "quoit/server/": {"int8"},  # the same
    "quoit/tuning/roofline.py": {"fp32", "int8"},  # rates of this machine
}


@pytest.mark.parametrize("package", ["quoit", "quoit_export"])
def test_no_module_but_the_tables_asks_for_a_precision_by_its_name(package: str) -> None:
    root = Path(str(files(package)))
    for module in root.rglob("*.py"):
        name = module.relative_to(root.parent).as_posix()
        allowed = next((names for place, names in PLACES.items() if name.startswith(place)), set())
        assert name in TABLES or compared_names(module) <= allowed, name


@dataclass(frozen=True)
class RoundedWeights(OneByOne):
    """Weights as in int8, unpacked before each product; activations stay in float32."""

    stored: Int8Encoding = field(default_factory=lambda: Int8Encoding(int8_table=True))
    dtype: ir.DataType = ir.DataType.FLOAT
    stored_dtype: ir.DataType = ir.DataType.FLOAT

    def narrowed(self) -> "RoundedWeights":
        return self

    def embed(self, author: Author, ids: ir.Value, name: str, shape: tuple[int, int]) -> ir.Value:
        return self.stored.embed(author, ids, name, shape)

    def prepare(self, author: Author, x: Rows, tokens: ir.Value, names: Sequence[str]) -> Rows:
        return x

    def linear(self, author: Author, x: Rows, name: str, shape: tuple[int, int]) -> Rows:
        weight, scale = self.stored.columns(author, name, shape)
        return Rows(author.op("MatMul", x.values, author.op("DequantizeLinear", weight, scale, axis=1)), x.scale)


NEW = cast("Precision", "w8")


def test_another_precision_is_one_entry_and_one_encoding(
    tmp_path: Path, byte_checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real one, up to the manifest, whose Literal names those that a file may have."""
    floors = PRECISIONS["int8"].floors
    monkeypatch.setitem(PRECISIONS, NEW, PrecisionSpec(RoundedWeights(), floors))
    monkeypatch.setitem(RUN, NEW, RUN["int8"])
    checkpoint = open_checkpoint(str(byte_checkpoint_folder))
    staging = Staging.open(tmp_path / "staging", checkpoint, bare_manifest(checkpoint))
    measured = Making(checkpoint, staging, built_in_texts()).make([NEW, REFERENCE])
    manifest = with_variants(staging, measured)
    variant = manifest.variants[NEW]
    assert variant.accepted
    assert variant.made is None
    assert [(one.measure, one.floor) for one in variant.parity if one.floor is not None] == [
        (measure, floors[measure]) for measure in ("cosine", "centred")
    ]
    assert floors["cosine"] < variant.parity[0].minimum < 1
    names = ["model.onnx", "model.onnx.data"]
    assert sorted(file.name for file in (tmp_path / "staging" / NEW).iterdir()) == names
    artifact, samples = Artifact(staging.folder, manifest), [held_out()]
    found, reference = (variant_answers(artifact, name, samples)[0] for name in (NEW, REFERENCE))
    assert not np.array_equal(found, reference)
    assert (np.einsum("nd,nd->n", found, reference)).min() >= floors["cosine"]
    ceilings, work = Ceilings(int8=100, fp32=10, bandwidth=1), Work(linear=10**9, attention=0, weights=0)
    assert least_seconds(work, ceilings, NEW) == pytest.approx(0.01)
