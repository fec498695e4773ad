"""Make an artifact of a checkpoint of the hub, once, in a process of its own."""

import logging
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout

from quoit.artifact import MANIFEST, Artifact, Precision, is_file, read_artifact
from quoit.errors import ArtifactError, brief
from quoit.hub.folders import exports_folder
from quoit.hub.lookup import Found
from quoit.hub.names import HubName
from quoit.machine import usable_cores
from quoit.precisions import PRECISIONS

PACKAGES = {"jinja2": "jinja2", "ml_dtypes": "ml-dtypes", "onnx_ir": "onnx-ir", "safetensors": "safetensors"}
"""Modules of the extra `export`, and their distributions."""
WEIGHTS = ".safetensors"
CORE_SECONDS = 500.0
"""Seconds of one core to export a gigabyte of weights to int8, about: 250 on an AMD EPYC with AVX512-VNNI, 1,000 on one
with AVX2. Other precisions take a small part of it."""
LEAST_SHOWN = 150.0
"""Seconds from which on the time is said in minutes."""


logger = logging.getLogger("quoit")


def exported(name: HubName, found: Found, precision: Precision) -> Artifact:
    """Return the artifact of a checkpoint of the hub; it is exported where that has not been done.

    Other processes that ask for the same one wait for it.

    Raises:
        ArtifactError: it cannot be exported, or what was kept is damaged.
    """
    folder = folder_of(name, found)
    if (artifact := _kept(folder, precision)) is not None:
        return artifact
    check_installed(name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = waiting_lock(folder)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            logger.warning("another process exports %s; waiting for it", name)
            lock.acquire()
    except OSError as error:
        raise ArtifactError(
            f"cannot keep an export of {name} in {folder.parent} ({error.strerror or error}); set QUOIT_CACHE to a "
            "folder that can be written"
        ) from error
    with lock:
        if (artifact := _kept(folder, precision)) is not None:
            return artifact
        announce(name, found, precision, folder)
        export(name, found, precision, folder)
    return read_artifact(folder)


def kept(name: HubName, found: Found) -> Artifact:
    """Return the artifact that was exported here before.

    Raises:
        ArtifactError: there is none.
    """
    folder = folder_of(name, found)
    if not is_file(folder / MANIFEST):
        raise ArtifactError(
            f"{name} is a checkpoint, and was not exported here; running it by its name does so, or "
            f"`quoit-export {name} OUT`"
        )
    return read_artifact(folder)


def folder_of(name: HubName, found: Found) -> Path:
    """Return the folder of a checkpoint's export."""
    return exports_folder() / name.folder / found.commit


def waiting_lock(folder: Path) -> FileLock:
    """Return the lock of those who export to a folder or wait for it."""
    return FileLock(folder.with_name(f".{folder.name}.waiting"))


def _kept(folder: Path, precision: Precision) -> Artifact | None:
    """Return the artifact that was exported before, if it has the precision."""
    if not is_file(folder / MANIFEST):
        return None
    artifact = read_artifact(folder)
    return artifact if precision in artifact.accepted() else None


def check_installed(name: HubName) -> None:
    """Refuse to export where the packages for it are not installed.

    Raises:
        ArtifactError: some are not.
    """
    missing = [distribution for module, distribution in PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise ArtifactError(
            f"{name} is a checkpoint, which is exported before it can run, and {', '.join(missing)} for that is not "
            "installed; `pip install 'quoit[export]'`"
        )


def announce(name: HubName, found: Found, precision: Precision, folder: Path) -> None:
    """Say what is about to be done, how large it is and about how long it takes."""
    weights = sum(size for path, size in found.sizes.items() if path.endswith(WEIGHTS))
    words = f"{name} is a checkpoint; it is exported to {precision} once"
    if weights:
        calibrated = PRECISIONS[precision].integer_products
        seconds = weights / 1e9 * CORE_SECONDS / usable_cores() * (1 if calibrated else 0.1)
        minutes = f"{seconds / 60:,.0f} minutes" if seconds >= LEAST_SHOWN else "a minute or two"
        words += f", from {weights / 1e9:,.2f} GB of weights, which takes about {minutes} here"
    logger.warning("%s, and is kept in %s", words, folder)


def export(name: HubName, found: Found, precision: Precision, folder: Path) -> None:
    """Run `quoit-export`. Its progress is seen where standard error is a terminal.

    Raises:
        ArtifactError: it failed; nothing was published, and the next run goes on from what is done.
    """
    command = [sys.executable, "-m", "quoit_export", name.repository, str(folder)]
    command += ["--revision", found.commit, "--precision", precision]
    shown = sys.stderr is not None and sys.stderr.isatty()
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if shown else subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = [] if done.stderr is None else done.stderr.strip().splitlines()
        why = f"it says: {brief(lines[-1], 600)}" if lines else "it says why above"
        raise ArtifactError(
            f"{name} could not be exported to {precision} (exit code {done.returncode}); {why}. Name another "
            "precision, or export it by hand with `quoit-export`"
        )
