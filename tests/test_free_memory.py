from pathlib import Path

import psutil
import pytest

from petseg import control_groups, free_memory

GIB = 1 << 30


def write_group(folder: Path, version: int, limit: object, used: int, file_cache: int) -> None:
    """Files of a control group, as Linux writes them."""
    names = {
        2: ("memory.max", "memory.current", "inactive_file"),
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }[version]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {file_cache}\nactive_file 7\n")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 64 GiB free; writes what /proc/self/cgroup says."""
    free = psutil.virtual_memory()._replace(available=64 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(control_groups, "_GROUPS_OF_PROCESS", tmp_path / "cgroup")
    monkeypatch.setattr(control_groups, "_ROOT", tmp_path / "fs")
    return lambda *lines: (tmp_path / "cgroup").write_text("".join(f"{one}\n" for one in lines))


def test_without_control_groups_it_is_the_machines(machine):
    assert free_memory.available_bytes() == 64 * GIB
    machine("0::/user.slice")
    assert free_memory.available_bytes() == 64 * GIB


def test_a_container_sees_its_own_group_as_the_root(machine, tmp_path):
    machine("0::/")
    write_group(tmp_path / "fs", 2, 4 * GIB, 3 * GIB, GIB // 2)
    assert free_memory.available_bytes() == 3 * GIB // 2


@pytest.mark.parametrize("inner_limit", ["max", 30 * GIB])
def test_the_limit_of_an_outer_group_counts(machine, tmp_path, inner_limit):
    machine("0::/jobs/one")
    write_group(tmp_path / "fs" / "jobs" / "one", 2, inner_limit, GIB, 0)
    write_group(tmp_path / "fs" / "jobs", 2, 10 * GIB, 8 * GIB, GIB)
    assert free_memory.available_bytes() == 3 * GIB


def test_groups_of_version_1(machine, tmp_path):
    machine("12:cpu,cpuacct:/docker/abc", "4:memory:/docker/abc", "1:name=systemd:/docker/abc")
    write_group(tmp_path / "fs" / "memory", 1, (1 << 63) - 4096, 5 * GIB, GIB)  # no limit
    assert free_memory.available_bytes() == 64 * GIB
    write_group(tmp_path / "fs" / "memory" / "docker" / "abc", 1, 2 * GIB, GIB, 0)
    assert free_memory.available_bytes() == GIB


def test_more_in_use_than_allowed_leaves_nothing(machine, tmp_path):
    machine("0::/")
    write_group(tmp_path / "fs", 2, GIB, GIB + 1, 0)
    assert free_memory.available_bytes() == 0


def test_a_machine_with_less_than_the_limit_counts(machine, tmp_path):
    machine("0::/")
    write_group(tmp_path / "fs", 2, 128 * GIB, GIB, 0)
    assert free_memory.available_bytes() == 64 * GIB
