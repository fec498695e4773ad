"""What the machine offers, and what is said where the system does not tell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quoit import machine
from quoit.machine import (
    CGROUP_ROOT,
    INT8_FEATURES,
    cgroup_quotas,
    cpu_features,
    cpu_name,
    resident_bytes,
    usable_cores,
)

X86 = """\
processor\t: 0
model name\t: Some Xeon: 2.0GHz
flags\t\t: fpu avx2 avx512f_not avx512_vnni sse2

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd asimddp\n"


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, cpuinfo: str) -> None:
    file = folder / "cpuinfo"
    file.write_text(cpuinfo)
    monkeypatch.setattr(machine, "CPUINFO", file)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot confine a process to cores")
def test_only_cores_this_process_may_use_count() -> None:
    allowed = os.sched_getaffinity(0)
    assert usable_cores() == len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def pretend_cgroups(patch: pytest.MonkeyPatch, folder: Path, names: str, files: dict[str, str]) -> None:
    """Quota files below a root, and the names of this process's groups."""
    for name, content in files.items():
        (folder / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "root" / name).write_text(content)
    (folder / "names").write_text(names)
    patch.setattr(machine, "CGROUP_NAMES", folder / "names")
    patch.setattr(machine, "CGROUP_ROOT", folder / "root")


@pytest.mark.parametrize(
    ("names", "files", "quotas"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, [2]),
        ("0::/\n", {"cpu.max": "max 100000\n"}, []),
        ("0::/\n", {}, []),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "150000 100000\n"}, [1.5]),
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000\n", "a/cpu.max": "250000 50000\n"}, [3, 5]),
        ("0::/of/the/host\n", {"cpu.max": "50000 100000\n"}, [0.5]),
        ("3:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, [4]),
        ("3:cpuset:/x\n1:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "100\n", "cpu/x/cpu.cfs_period_us": "100\n"}, [1]),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, []),
        ("3:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, []),
        ("0::/a:b\n", {"a:b/cpu.max": "700000 100000\n"}, [7]),
        ("0::/\n", {"cpu.max": "what 100000\n"}, []),
        ("0::/\n", {"cpu.max": "100000 0\n"}, []),
    ],
)
def test_a_quota_of_cpu_time_is_read_from_the_groups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: str, files: dict[str, str], quotas: list[float]
) -> None:
    pretend_cgroups(monkeypatch, tmp_path, names, files)
    assert cgroup_quotas() == quotas


@pytest.mark.parametrize(
    ("quota", "cores"), [(640, 64), (64, 64), (63.9, 63), (2, 2), (1.99, 1), (1, 1), (0.99, 1), (0.05, 1)]
)
def test_no_more_cores_are_used_than_a_quota_pays_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: float, cores: int
) -> None:
    """On a host of 64 cores."""
    pretend_cgroups(monkeypatch, tmp_path, "0::/\n", {"cpu.max": f"{round(quota * 100_000)} 100000\n"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(64)}, raising=False)
    assert usable_cores() == cores


def test_without_groups_no_quota_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "CGROUP_NAMES", tmp_path / "absent")
    assert cgroup_quotas() == []


def test_the_quota_of_a_real_group_counts() -> None:
    """A process in a group of its own, where one can be made."""
    group = CGROUP_ROOT / "cpu" / f"quoit-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no group of version 1 can be made here")
    try:
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text("150000")
        ask = "from quoit.machine import cgroup_quotas, usable_cores; print(min(cgroup_quotas()), usable_cores())"
        join = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')"
        done = subprocess.run([sys.executable, "-c", f"{join}; {ask}"], capture_output=True, text=True, check=True)
        assert done.stdout == "1.5 1\n"
    finally:
        group.rmdir()


def test_without_affinity_all_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_this_machine_has_a_name() -> None:
    assert cpu_name().strip()


def test_features_are_among_those_that_matter() -> None:
    found = cpu_features()
    assert found is None or set(found) <= set(INT8_FEATURES)


def test_x86_features_are_whole_words_of_the_first_core(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, X86)
    assert cpu_features() == ("avx512_vnni", "avx2")
    assert cpu_name() == "Some Xeon: 2.0GHz"


def test_arm_features_are_found_under_their_own_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, ARM)
    assert cpu_features() == ("asimddp",)
    assert cpu_name()


def test_a_system_that_does_not_tell_gives_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "absent")
    assert cpu_features() is None
    assert cpu_name()


def test_resident_memory_is_in_bytes_and_never_falls() -> None:
    first = resident_bytes()
    assert first is not None
    block = b"x" * (64 << 20)
    second = resident_bytes()
    assert second is not None
    assert second >= first
    assert len(block) < second < 1 << 40


def test_resident_memory_is_that_of_this_process_not_of_the_one_that_started_it() -> None:
    """A child of a process with 256 MB is as small as any other."""
    ask = "from quoit.machine import resident_bytes; print(resident_bytes())"
    script = f"import subprocess, sys; block = b'x' * (256 << 20); subprocess.run([sys.executable, '-c', {ask!r}])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 256 << 20


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no getrusage")
def test_without_a_status_file_getrusage_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    exact = resident_bytes()
    monkeypatch.setattr(machine, "STATUS", tmp_path / "absent")
    found = resident_bytes()
    assert exact is not None
    assert found is not None
    assert found >= exact // 2
