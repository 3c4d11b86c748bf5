"""The limits of control groups, in folders that look like Linux's."""

import os

import pytest
from testing.picture_files import touch

from petseg import control_groups, cores


@pytest.fixture
def limited(tmp_path, monkeypatch):
    """A function that puts this process into groups, and gives the cores that it may use."""

    def cores_of(listing: str, files: dict[str, str], allowed: int = 96) -> int:
        (tmp_path / "listing").write_text(listing)
        for name, content in files.items():
            touch(tmp_path / "groups", [name], content.encode())
        monkeypatch.setattr(control_groups, "_GROUPS_OF_PROCESS", tmp_path / "listing")
        monkeypatch.setattr(control_groups, "_ROOT", tmp_path / "groups")
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
        return cores.usable_cores()

    return cores_of


@pytest.mark.parametrize(
    ("listing", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),  # docker run --cpus=2
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 96),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/a/b\n", {"cpu.max": "400000 100000\n"}, 4),  # seen from within a container
        (
            "4:cpu,cpuacct:/x\n0::/\n",
            {"cpu/x/cpu.cfs_quota_us": "250000\n", "cpu/x/cpu.cfs_period_us": "50000\n"},
            5,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 96),
        ("3:cpuset:/\n", {"cpu.max": "100000 100000\n"}, 96),
    ],
)
def test_the_limit_of_a_container_counts(limited, listing, files, expected):
    assert limited(listing, files) == expected


def test_the_cores_that_the_process_may_run_on_count(limited):
    assert limited("0::/\n", {"cpu.max": "200000 100000\n"}, allowed=1) == 1


def test_without_linux_all_cores_count(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(control_groups, "_GROUPS_OF_PROCESS", tmp_path / "nowhere")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert cores.usable_cores() == 7
