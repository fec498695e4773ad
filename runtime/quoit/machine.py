"""What this machine offers: cores, CPU features, memory. It does not know what runs on it."""

import os
import platform
import sys
from pathlib import Path

CPUINFO, STATUS = Path("/proc/cpuinfo"), Path("/proc/self/status")
INT8_FEATURES = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512f", "avx2", "asimddp")
"""Features that decide the speed of int8, as Linux names them."""


def usable_cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's name, as far as the system tells."""
    return _value(CPUINFO, "model name") or platform.processor() or platform.machine()


def cpu_features() -> tuple[str, ...] | None:
    """The features of INT8_FEATURES this processor has; None where the system does not tell."""
    flags = _value(CPUINFO, "flags") or _value(CPUINFO, "Features")
    return None if flags is None else tuple(name for name in INT8_FEATURES if name in flags.split())


def resident_bytes() -> int | None:
    """The largest resident memory of this process so far; None where the system does not tell.

    Linux carries getrusage's figure over from the process that started this one, so its own status is asked there.
    """
    peak = _value(STATUS, "VmHWM")
    if peak is not None:
        return int(peak.split()[0]) * 1024  # "kB" there is KiB
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _value(file: Path, key: str) -> str | None:
    """What stands behind a key in a file of lines like `key: value`."""
    if not file.is_file():
        return None
    for line in file.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None
