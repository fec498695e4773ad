"""Brings the packages that the texts come from, with the package managers' own clients.

Needs Debian 12 (bookworm) or a container of it: package descriptions, WordNet and Python's documentation are
taken from its archive. Docstrings come from wheels. This module does not know what is inside.
"""

import subprocess
import sys
from pathlib import Path

LANGUAGES = ("en", "de", "es", "fr", "it", "pt_BR")

DEBIAN_PACKAGES = ("wordnet-base", "python3.11-doc")

WHEELS = (
    *("Django==5.2.8", "SQLAlchemy==2.0.44", "astropy==7.1.1", "dask==2025.11.0", "matplotlib==3.10.7"),
    *("networkx==3.5", "nltk==3.9.2", "numpy==2.3.5", "pandas==2.3.3", "scikit-image==0.25.2"),
    *("scikit-learn==1.7.2", "scipy==1.16.3", "statsmodels==0.14.5", "sympy==1.14.0", "Twisted==25.5.0"),
    *("xarray==2025.11.0", "setuptools==80.9.0", "bokeh==3.8.1", "celery==5.5.3", "Sphinx==8.2.3"),
    *("transformers==5.24.0", "mlflow-skinny==3.17.2", "music21==10.5.1", "sktime==1.2.0", "pennylane==0.45.1"),
    *("pyvista==0.49.1", "kornia==0.9.0", "diffusers==0.42.1", "qiskit==2.6.2", "tensorflow-probability==0.25.0"),
    *("monai==1.6.1", "jax==0.10.2", "napari==0.9.2", "mne==1.13.2", "biopython==1.88"),
    *("pyomo==6.10.1", "textual==8.2.8", "cirq-core==1.7.0", "keras==3.15.1", "mypy==2.4.1"),
    *("polars==2.1.0", "botorch==0.18.1", "dipy==1.12.1", "pytensor==3.0.7", "apache-airflow-core==3.3.2"),
    *("wandb==0.31.0", "trimesh==5.2.0", "galpy==1.12.1", "prefect==3.9.1", "torch-geometric==2.8.1"),
    *("scitools-iris==3.14.1", "langchain-core==1.8.4", "ibis-framework==12.0.0", "nilearn==0.14.1"),
    *("huggingface_hub==2.4.0", "timm==1.0.31", "albumentations==2.0.8", "photutils==3.0.0", "pyro-ppl==1.9.2"),
    *("tensorflow-datasets==4.9.10", "ipython==9.18.1", "astroquery==0.4.11", "pymatgen==2026.10.24", "cvxpy==1.9.3"),
    *("qutip==5.3.1", "vispy==0.17.0", "lightning==2.6.6", "plotnine==0.15.9", "nibabel==5.4.2"),
    *("sunpy==7.0.5", "llama-index-core==0.14.25", "blackjax==1.7.1", "pymc==5.28.5", "numpyro==0.22.0"),
    *("pydantic==2.14.4", "torchvision==0.29.1", "sentence-transformers==6.2.0", "distributed==2026.8.0"),
    *("datasets==5.2.0", "libpysal==4.14.1", "pandera==0.35.0", "flax==0.12.8", "zarr==3.1.6", "pydicom==3.0.2"),
    *("tornado==6.6.1", "holoviews==1.23.2", "peft==0.21.2", "gpy==1.15.0", "econml==0.17.0"),
    *("metpy==1.7.1", "panel==1.9.4", "great_expectations==1.24.1"),
)
"""Exact versions, under BSD, MIT, PSF, Apache or Biopython's licence; built for CPython 3.11 on x86-64 Linux."""


def run(*command: str, cwd: Path | None = None) -> str:
    """The standard output of a command.

    Raises:
        SystemExit: it failed; with the end of what it said.
    """
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed ({done.returncode}): {done.stderr.strip()[-500:]}")
    return done.stdout


def fetch_lists(folder: Path) -> None:
    """The archive's package lists and their translations, into `folder`, unpacked."""
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    run("apt-get", "-o", f"Dir::State::Lists={lists}", "-o", f"Acquire::Languages={','.join(LANGUAGES)}", "update")
    for file in sorted(lists.glob("*dists_bookworm_main_*.lz4")):
        name = file.name.split("_main_", 1)[1].removesuffix(".lz4").replace("%5f", "_")
        (folder / name).write_text(run("/usr/lib/apt/apt-helper", "cat-file", str(file)))


def fetch_debian(folder: Path) -> None:
    """Downloads each of DEBIAN_PACKAGES and unpacks it into a folder of its name."""
    run("apt-get", "download", *DEBIAN_PACKAGES, cwd=folder)
    for name in DEBIAN_PACKAGES:
        (package,) = folder.glob(f"{name}_*.deb")
        (folder / name).mkdir(exist_ok=True)
        run("dpkg-deb", "-x", str(package), str(folder / name))


def fetch_wheels(folder: Path) -> None:
    """Downloads WHEELS without what they depend on."""
    target = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64")
    options = ("--no-deps", "--only-binary", ":all:", "--dest", str(folder))
    run(sys.executable, "-m", "pip", "download", "--quiet", *target, *options, *WHEELS)


def fetch(folder: Path) -> None:
    """Everything, into `folder`; nothing when it was complete before."""
    complete = folder / "complete"
    if complete.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    fetch_lists(folder)
    fetch_debian(folder)
    fetch_wheels(folder)
    complete.touch()
