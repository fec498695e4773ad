"""What may import what, and what the package shows to the outside."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import quoit

HEAVY = ("torch", "transformers", "onnx", "onnx_ir", "onnxruntime", "safetensors", "huggingface_hub", "quoit_export")
TESTS = Path(__file__).parent
COLUMNS = ("pandas", "polars", "pyarrow")
PUBLIC = {
    "ArtifactError",
    "AsyncEmbedder",
    "AsyncReranker",
    "ComputeError",
    "DeadlineError",
    "Embedder",
    "InputError",
    "OverloadedError",
    "ProviderError",
    "QuoitError",
    "Reranker",
    "Waiting",
    "__version__",
    "calibration_ranges",
    "shared",
}


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after a statement."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(found.stdout.splitlines()[-1]))


def test_import_quoit_loads_nothing_heavy() -> None:
    assert not modules_after("from quoit import *") & {*HEAVY, *COLUMNS}


def test_the_command_line_loads_nothing_heavy_before_it_runs() -> None:
    assert not modules_after("import quoit.cli.main") & set(HEAVY)


def test_a_program_is_guarded_before_its_own_imports_begin() -> None:
    """Ctrl-C before `quoit.cli.process.start` would be a traceback, so nothing that takes time comes before it."""
    for package in ("quoit", "quoit_export"):
        loaded = modules_after(f"import {package}.__main__")
        assert {name for name in loaded if name.startswith("quoit")} <= {
            *("quoit", "quoit.__main__", "quoit.cli", "quoit.cli.process", "quoit_export", "quoit_export.__main__")
        }
        assert not loaded & {"numpy", "tokenizers", "msgspec", "argparse"}


def test_exporting_needs_no_torch() -> None:
    loaded = modules_after("import quoit_export.cli")
    assert "quoit_export.graph.model" in loaded
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


def test_sources_that_are_not_installed_have_no_version() -> None:
    """Without site-packages there is no distribution; what asks with a default gets the default."""
    program = "import quoit; print(hasattr(quoit, '__version__'), getattr(quoit, '__version__', None))"
    command = [sys.executable, "-S", "-c", program]
    environment = os.environ | {"PYTHONPATH": str(Path(quoit.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False None\n", "")


@pytest.mark.parametrize("name", ["errors.InputError", "arguments.flag", "machine.usable_cores", "embedder.Embedder"])
def test_a_module_is_there_after_import_quoit(name: str) -> None:
    """In a fresh process, which has loaded none of them."""
    module = f"quoit.{name.split('.')[0]}"
    assert module not in modules_after("import quoit")
    assert module in modules_after(f"import quoit; quoit.{name}")


@pytest.mark.parametrize("name", ["_errors", "__wrapped__", "errors.InputError", "../errors", "", "numpy"])
def test_what_is_no_module_of_quoit_is_no_attribute(name: str) -> None:
    assert getattr(quoit, name, None) is None


def test_every_error_is_a_quoit_error() -> None:
    errors = [quoit.ArtifactError, quoit.ComputeError, quoit.InputError, quoit.ProviderError]
    assert all(issubclass(error, quoit.QuoitError) for error in errors)
    assert issubclass(quoit.InputError, ValueError)


def test_the_tests_of_the_planner_start_without_torch() -> None:
    """Fixtures import the reference when they run, so tests that use none of it start in a moment."""
    arguments = ["-q", "-p", "no:cacheprovider", "-k", "not bounded_time", str(TESTS / "runtime" / "test_planner.py")]
    loaded = modules_after(f"import pytest; assert pytest.main({arguments!r}) == 0")
    assert "quoit.engine.planner" in loaded
    assert not loaded & {"torch", "transformers", "onnxruntime", "quoit_export", "hypothesis"}
