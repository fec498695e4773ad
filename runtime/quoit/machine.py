"""What this machine offers: cores, CPU features, memory. It does not know what runs on it."""

import os
import platform
import sys
from pathlib import Path

CPUINFO, STATUS = Path("/proc/cpuinfo"), Path("/proc/self/status")
CGROUP_NAMES, CGROUP_ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
INT8_FEATURES = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512f", "avx2", "asimddp")
"""Features that decide the speed of int8, as Linux names them."""


def usable_cores() -> int:
    """Number of cores this process may use: its CPU affinity, limited by its cgroups' CPU quota, rounded down.

    Threads that wait for each other all stop when the quota of a period is used up, so one thread too many costs more
    than one too few.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *(max(int(quota), 1) for quota in cgroup_quotas())])


def cgroup_quotas() -> list[float]:
    """The CPU quotas of this process's cgroup and of those above it, in cores; none where nothing is limited.

    Version 2 has `cpu.max`, with the quota and the period in microseconds or `max`; version 1 has a file for each
    (kernel documentation, admin-guide/cgroup-v2 and scheduler/sched-bwc).
    """
    quotas = []
    for folder in _cgroup_folders():
        words = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(words) == len(("quota", "period")) and all(word.isdecimal() for word in words) and int(words[1]):
            quotas.append(int(words[0]) / int(words[1]))
    return quotas


def _cgroup_folders() -> list[Path]:
    """The folders of this process's cgroup for the CPU and of those above it.

    In a container the path may be that of the host and not exist here; parent folders are tried up to the root.
    """
    try:
        lines = CGROUP_NAMES.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUP_ROOT / "cpu" if controllers else CGROUP_ROOT
        inside = Path(name.lstrip("/"))
        folders += [root / inside, *(root / above for above in inside.parents)]
    return folders


def _words(file: Path) -> list[str]:
    """The words of a file; none where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8").split()
    except OSError:
        return []


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
