"""Report what this machine offers: usable cores, CPU features, memory of this process, and a folder to keep things."""

import os
import platform
import sys
from pathlib import Path

from platformdirs import user_cache_path

CACHE_VARIABLE = "QUOIT_CACHE"
CPUINFO, STATUS = Path("/proc/cpuinfo"), Path("/proc/self/status")
CGROUP_NAMES, CGROUP_ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
INT8_FEATURES = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512f", "avx2", "asimddp")
"""CPU features that decide the speed of int8, by their Linux names."""


def cache_folder() -> Path:
    """Return the folder of what can be made again: models, tunings, vectors. QUOIT_CACHE names another one."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else user_cache_path("quoit")


def usable_cores() -> int:
    """Return the number of cores that this process may use: its CPU affinity, limited by its cgroups' CPU quota.

    The quota is rounded down, to at least 1. Threads that wait for each other all stop when the quota of a period is
    used up, so one thread too many costs more than one too few.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *(max(int(quota), 1) for quota in cgroup_quotas())])


def cgroup_quotas() -> list[float]:
    """Return the CPU quotas of this process's cgroup and its parents, in cores; empty if there is no limit.

    Version 2 has `cpu.max`, with the quota (or `max`) and the period in microseconds. Version 1 has one file for each
    of them (kernel documentation, admin-guide/cgroup-v2 and scheduler/sched-bwc).
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
    """Return the folders of this process's CPU cgroup and of its parents.

    In a container, the path may be the host's and not exist here, so all parent folders up to the root are included.
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
    """Return the words of a file; empty if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8").split()
    except OSError:
        return []


def cpu_name() -> str:
    """Return the processor's name, as far as the system reports it."""
    return _value(CPUINFO, "model name") or platform.processor() or platform.machine()


def cpu_features() -> tuple[str, ...] | None:
    """Return the features of INT8_FEATURES that this processor has; None if the system does not report them."""
    flags = _value(CPUINFO, "flags") or _value(CPUINFO, "Features")
    return None if flags is None else tuple(name for name in INT8_FEATURES if name in flags.split())


def resident_bytes() -> int | None:
    """Return the peak resident memory of this process, in bytes; None if the system does not report it.

    On Linux, getrusage carries its figure over from the process that started this one. So /proc/self/status is read.
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
    """Return the value of a key in a file of lines like `key: value`; None if it is not there."""
    if not file.is_file():
        return None
    for line in file.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None
