"""Compile the kernels when the distribution is built, with the C++ compiler of the package `ziglang`.

The library lands in the package `quoit.ort`, beside the module that loads it, and the wheel is then one for a platform
(`py3-none-<platform>`), since the library needs neither Python nor any library but libc. Where it cannot be compiled
the build goes on: the wheel is a pure one, and a text file in the library's place says why, for `quoit doctor`.

QUOIT_PURE=1 leaves the kernels out. QUOIT_KERNELS_TARGET names another platform of TARGETS to compile for.
"""

import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path(__file__).parent
PACKAGE = SOURCES.parent / "quoit" / "ort"
REASON = "quoit_kernels.txt"
"""Name of the file that says why there is no library."""
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden")
WARNINGS = ("-Wall", "-Wextra", "-Werror")
COMMON = ("dispatch.cpp", "memory.cpp", "operators.cpp")
X86_64 = {
    "avx512_vnni.cpp": (
        *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mfma"),
        "-mprefer-vector-width=512",
    ),
    "avx_vnni.cpp": ("-mavx2", "-mavxvnni", "-mfma"),
    "avx2.cpp": ("-mavx2", "-mfma"),
}
ARM64: dict[str, tuple[str, ...]] = {"neon.cpp": ()}


@dataclass(frozen=True)
class Target:
    """A platform to compile for.

    Attributes:
        triple: the platform as the compiler names it, with the oldest libc that the library runs on.
        tag: the platform as a wheel's name says it.
        library: file name of the library.
        kernels: the sources that are compiled for one instruction set each, with their flags.
    """

    triple: str
    tag: str
    library: str
    kernels: dict[str, tuple[str, ...]]

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of every source."""
        return FLAGS if self.library.endswith(".dll") else (*FLAGS, "-fPIC")


TARGETS = {
    ("linux", "x86_64"): Target("x86_64-linux-gnu.2.17", "manylinux_2_17_x86_64", "libquoit_kernels.so", X86_64),
    ("linux", "aarch64"): Target("aarch64-linux-gnu.2.17", "manylinux_2_17_aarch64", "libquoit_kernels.so", ARM64),
    ("darwin", "arm64"): Target("aarch64-macos.11.0", "macosx_11_0_arm64", "libquoit_kernels.dylib", ARM64),
    ("darwin", "x86_64"): Target("x86_64-macos.11.0", "macosx_11_0_x86_64", "libquoit_kernels.dylib", X86_64),
    ("win32", "amd64"): Target("x86_64-windows-gnu", "win_amd64", "quoit_kernels.dll", X86_64),
    ("win32", "arm64"): Target("aarch64-windows-gnu", "win_arm64", "quoit_kernels.dll", ARM64),
}
"""Platforms that have kernels, by Python's names of system and machine."""


class UnsupportedError(Exception):
    """Reason why there are no kernels; the message says what would change that."""


class KernelsHook(BuildHookInterface[Any]):
    """Adds the library, or the reason why there is none, to the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile before the files of the wheel are collected."""
        if self.target_name != "wheel":
            return
        for name in {REASON, *(target.library for target in TARGETS.values())}:
            (PACKAGE / name).unlink(missing_ok=True)
        try:
            target = find_target()
            library = compile_library(target, PACKAGE / target.library)
        except UnsupportedError as error:
            library = PACKAGE / REASON
            library.write_text(f"{error}\n", encoding="utf-8")
            self.app.display_warning(f"without native kernels: {error}")
        else:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{target.tag}"
        build_data["artifacts"].append(library.relative_to(self.root).as_posix())


def find_target() -> Target:
    """Return the platform to compile for.

    Raises:
        UnsupportedError: kernels are not wanted, or there are none for it.
    """
    if os.environ.get("QUOIT_PURE", "0") not in {"", "0"}:
        raise UnsupportedError("they were left out of this build by QUOIT_PURE; build again without it")
    named = os.environ.get("QUOIT_KERNELS_TARGET")
    key = tuple(named.split("-", 1)) if named else (sys.platform, platform.machine().lower())
    if "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or ""):
        raise UnsupportedError("onnxruntime has no wheel for musl, and so the kernels are not compiled for it either")
    target = TARGETS.get((key[0], key[-1]))
    if target is None:
        known = ", ".join("-".join(one) for one in TARGETS)
        raise UnsupportedError(f"there are none for {'-'.join(key)}; {known} have them")
    return target


def compile_library(target: Target, out: Path) -> Path:
    """Compile the library of a platform, and return its path.

    Raises:
        UnsupportedError: the compiler is not installed, or it failed.
    """
    compiler = find_compiler()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        sources = {**dict.fromkeys(COMMON, ()), **target.kernels}
        objects = [Path(folder) / f"{name}.o" for name in sources]
        commands = [
            [
                *(compiler, "c++", "-target", target.triple, *target.flags, *WARNINGS, *flags),
                *("-c", str(SOURCES / name), "-o", str(made)),
            ]
            for (name, flags), made in zip(sources.items(), objects, strict=True)
        ]
        list(pool.map(run, commands))
        linked = Path(folder) / target.library
        # As C: nothing needs the C++ runtime library, which would first be compiled for minutes.
        run([compiler, "cc", "-target", target.triple, "-shared", "-s", *map(str, objects), "-o", str(linked)])
        out.write_bytes(linked.read_bytes())
    return out


def find_compiler() -> str:
    """Return the path of the compiler.

    Raises:
        UnsupportedError: the package that has it is not installed.
    """
    try:
        import ziglang
    except ImportError as error:
        raise UnsupportedError("their compiler, the package ziglang, has no wheel for this platform") from error
    return str(Path(ziglang.__file__).parent / "zig")


def run(command: Sequence[str]) -> None:
    """Run the compiler.

    Raises:
        UnsupportedError: it failed; the message has its last words.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = " ".join(done.stderr.split())[-400:]
        raise UnsupportedError(f"their compiler failed: {words}")
