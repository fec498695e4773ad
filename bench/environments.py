"""Environments for other systems, each made from a pinned requirement file and kept.

Rivals' pins conflict with each other and with quoit's. This module does not know what is run in them.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from bench.record import ROOT, WORK

FOLDER = WORK / "environments"
INSTALLERS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth", "wheel")
"""Packages of a new, empty environment; they are no part of a system's size."""
BUILD_SETTINGS = {"CMAKE_ARGS": "-DGGML_NATIVE=ON", "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1)}
"""llama.cpp comes as source, and is compiled for the instructions of this CPU."""
WITHOUT = re.compile(r"^# without: (\S+)$", re.MULTILINE)
"""Line of a requirement file that names a package to take out again."""
REASON_CHARACTERS = 600


class UnavailableError(Exception):
    """A system cannot run here; the message is the reason that the report gives."""


def make_environment(name: str, requirements: Path) -> Path:
    """The Python of an environment below FOLDER, made when it is not there or its requirements have changed.

    Raises:
        UnavailableError: the packages cannot be installed; with the end of what pip said.
    """
    folder = FOLDER / name
    python, seal = folder / "bin" / "python", folder / "requirements.sha256"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if seal.is_file() and seal.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
    print(f"installing {requirements.relative_to(ROOT)}", file=sys.stderr, flush=True)
    run(install, os.environ | BUILD_SETTINGS)
    unused = WITHOUT.findall(requirements.read_text())
    if unused:
        run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *unused])
    seal.write_text(wanted)
    return python


def run(command: list[str], settings: dict[str, str] | None = None) -> str:
    """What a command prints.

    Raises:
        UnavailableError: it failed; with the end of what it said.
    """
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(last_words(done.stderr or done.stdout))
    return done.stdout


def last_words(text: str) -> str:
    """The last error in what a program said, or the end of it, as one line of bounded length."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and "WARNING" not in line]
    errors = [number for number, line in enumerate(lines) if "Error" in line or "ERROR" in line]
    told = " ".join(lines[errors[-1] :] if errors else lines[-5:])
    return told[:REASON_CHARACTERS]


def installed_bytes(name: str) -> int:
    """The bytes of all that is installed for a system, without pip and the interpreter's caches."""
    (packages,) = (FOLDER / name).glob("lib/python*/site-packages")
    total = 0
    for entry in packages.iterdir():
        if entry.name.split("-")[0] in INSTALLERS or entry.name in INSTALLERS:
            continue
        files = entry.rglob("*") if entry.is_dir() else [entry]
        total += sum(file.lstat().st_size for file in files if file.is_file() and file.suffix != ".pyc")
    return total
