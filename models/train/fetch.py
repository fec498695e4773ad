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
)
"""Exact versions, under BSD, MIT, PSF or Apache licences; built for CPython 3.11 on x86-64 Linux."""


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
