"""The wheel and the source distribution: what they hold, and that the wheel runs where nothing else is."""

import re
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from quoit.artifact import Artifact
from support import Embedders

ROOT = Path(__file__).parent.parent
PACKAGES = {"quoit": ROOT / "runtime" / "quoit", "quoit_export": ROOT / "export" / "quoit_export"}
INSTALLED_MEGABYTES = 200


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The built wheel and sdist."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def test_the_wheel_holds_exactly_the_two_packages(distributions: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(distributions[0]).namelist())
    code = {name for name in names if ".dist-info/" not in name}
    expected = {
        f"{package}/{file.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert code == expected
    assert {"quoit/py.typed", "quoit_export/py.typed", "quoit_export/parity_texts.txt"} <= code
    assert {name.split("/", 1)[1] for name in names - code} == {
        *("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }


def test_the_sdist_holds_the_sources_and_no_model(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[1]) as archive:
        files = {name.split("/", 1)[1] for name in archive.getnames()}
        size = sum(member.size for member in archive.getmembers())
    tops = {name.split("/", 1)[0] for name in files}
    assert tops == {
        *("runtime", "export", "tests", "bench", "models", "scripts"),
        *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"),
        *("pyproject.toml", "constraints.txt", "PKG-INFO", ".gitignore"),
    }
    assert not [name for name in files if name.endswith((".onnx", ".data", ".safetensors", ".pyc"))]
    assert size < 10e6


def test_the_wheel_runs_in_an_empty_environment(
    distributions: tuple[Path, Path], tmp_path: Path, artifact: Artifact, embedders: Embedders
) -> None:
    """Installed with [cpu] alone it embeds, to the same bits, and is small on disk."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    (packages,) = environment.glob("lib/python*/site-packages")
    before = installed_bytes(packages)
    install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", f"{distributions[0]}[cpu]"]
    subprocess.run(install, check=True, capture_output=True)
    assert installed_bytes(packages) - before < INSTALLED_MEGABYTES * 1e6
    assert not (packages / "torch").exists()
    assert not (packages / "transformers").exists()
    told = subprocess.run([environment / "bin" / "quoit", "--version"], check=True, capture_output=True, text=True)
    assert told.stdout == f"quoit {version('quoit')}\n"
    refused = subprocess.run([environment / "bin" / "quoit-export", "a", "b"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert re.fullmatch(r"quoit-export: \w+ is not installed; `pip install 'quoit\[export\]'`\n", refused.stderr)

    text, out = "The capital of China is Beijing.", tmp_path / "vectors.npy"
    command = [
        str(environment / "bin" / "quoit"),
        "embed",
        "-m",
        str(artifact.folder),
        "--precision",
        "fp32",
        "-o",
        str(out),
    ]
    subprocess.run(command, input=text, text=True, check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(out), embedders("fp32").encode_document([text]))


def installed_bytes(packages: Path) -> int:
    """Bytes of the installed files; the interpreter's caches of compiled code are its own."""
    return sum(file.stat().st_size for file in packages.rglob("*") if file.is_file() and file.suffix != ".pyc")
