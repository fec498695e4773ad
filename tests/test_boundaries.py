"""What may import what, and what the package shows to the outside."""

import json
import subprocess
import sys
from importlib.metadata import version

import quoit

HEAVY = ("torch", "transformers", "onnx", "onnx_ir", "onnxruntime", "safetensors", "huggingface_hub", "quoit_export")
COLUMNS = ("pandas", "polars", "pyarrow")
PUBLIC = {
    "ArtifactError",
    "ComputeError",
    "Embedder",
    "InputError",
    "ProviderError",
    "QuoitError",
    "Reranker",
    "__version__",
    "calibration_ranges",
}


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after a statement."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(found.stdout.splitlines()[-1]))


def test_import_quoit_loads_nothing_heavy() -> None:
    assert not modules_after("from quoit import *") & {*HEAVY, *COLUMNS}


def test_the_command_line_loads_nothing_heavy_before_it_runs() -> None:
    assert not modules_after("import quoit.cli") & set(HEAVY)


def test_a_program_is_guarded_before_its_own_imports_begin() -> None:
    """Ctrl-C before `quoit.process.start` would be a traceback, so nothing that takes time comes before it."""
    for package in ("quoit", "quoit_export"):
        loaded = modules_after(f"import {package}.__main__")
        assert {name for name in loaded if name.startswith("quoit")} <= {
            *("quoit", "quoit.__main__", "quoit.process", "quoit_export", "quoit_export.__main__")
        }
        assert not loaded & {"numpy", "tokenizers", "msgspec", "argparse"}


def test_exporting_needs_no_torch() -> None:
    loaded = modules_after("import quoit_export.cli")
    assert "quoit_export.graph" in loaded
    assert not loaded & {"torch", "transformers"}


def test_the_public_surface_is_this() -> None:
    assert set(quoit.__all__) == PUBLIC
    assert all(hasattr(quoit, name) for name in PUBLIC)
    assert set(dir(quoit)) >= PUBLIC
    assert not hasattr(quoit, "Embeder")
    assert quoit.__version__ == version("quoit")


def test_the_version_is_that_of_the_distribution() -> None:
    assert quoit.__version__ == version("quoit")
    assert modules_after("import quoit; assert '__version__' not in vars(quoit)"), "looked up when it is asked for"


def test_every_error_is_a_quoit_error() -> None:
    errors = [quoit.ArtifactError, quoit.ComputeError, quoit.InputError, quoit.ProviderError]
    assert all(issubclass(error, quoit.QuoitError) for error in errors)
    assert issubclass(quoit.InputError, ValueError)
