"""petseg-convert as a process: many workers, Beam, signals, full disks."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from testing.command_processes import ROOT
from testing.commands import run_module
from testing.conversion import files_of
from testing.waiting import wait_until

from petseg.data import shard_files

SECONDS = 300


@pytest.fixture(scope="module")
def many_pets(raw_pets, tmp_path_factory):
    """The toy pets under 40 names each: long enough to be interrupted."""
    folder = tmp_path_factory.mktemp("many")
    trimaps = folder / "annotations" / "trimaps"
    for path in (folder / "images", trimaps):
        path.mkdir(parents=True)
    lines = []
    for line in (raw_pets / "annotations" / "trainval.txt").read_text().splitlines():
        name, rest = line.split(" ", 1)
        for copy in range(40):
            breed, number = name.rsplit("_", 1)
            other = f"{breed}_{number}{copy:02d}"
            os.link(raw_pets / "images" / f"{name}.jpg", folder / "images" / f"{other}.jpg")
            os.link(raw_pets / "annotations" / "trimaps" / f"{name}.png", trimaps / f"{other}.png")
            lines.append(f"{other} {rest}\n")
    (folder / "annotations" / "trainval.txt").write_text("".join(lines))
    return folder


def command(raw, out, *flags) -> list[str]:
    return [
        *(sys.executable, "-m", "petseg.cli.convert", f"--raw_dir={raw}", f"--output_dir={out}"),
        *("--shard_mib=1", "--workers=2", *flags),
    ]


def run(raw, out, *flags) -> subprocess.CompletedProcess:
    return run_module(*command(raw, out, *flags)[1:])


def run_with_limit(raw, out, preexec_fn) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(raw, out),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        preexec_fn=preexec_fn,
    )


@pytest.fixture(scope="module")
def converted(many_pets, tmp_path_factory):
    """The data set as one uninterrupted run makes it, and how long its writing takes."""
    out = tmp_path_factory.mktemp("converted") / "out"
    started_s = time.monotonic()
    process = start(many_pets, out)
    begun_s = time.monotonic()
    assert process.wait(SECONDS) == 0
    print(f"started in {begun_s - started_s:.1f} s, wrote in {time.monotonic() - begun_s:.1f} s")
    return files_of(out), time.monotonic() - begun_s


def _handle_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(raw, out) -> subprocess.Popen:
    """Starts a conversion and returns once it has begun to write."""
    process = subprocess.Popen(
        command(raw, out),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, and what they start, ignore SIGINT.
        preexec_fn=_handle_sigint,  # noqa: PLW1509  (there are no threads here)
    )
    wait_until(out.exists, "output folder", lambda: process.poll() is None)
    return process


def wait_for_workers(out) -> None:
    """Waits until the workers of a killed conversion have stopped writing."""
    before, now = None, ()
    while now != before:
        time.sleep(0.5)
        before, now = now, sizes_of(out)


def sizes_of(out) -> dict[str, int]:
    sizes = {}
    for path in out.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # renamed at this moment
            sizes[path.name] = path.stat().st_size
    return sizes


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ["--workers=1"],
        ["--workers=8"],
        ["--runner=beam"],
        [
            "--runner=beam",
            "--beam_args=--direct_num_workers=2,--direct_running_mode=multi_processing",
        ],
    ],
    ids=["one", "eight", "beam", "beam_processes"],
)
def test_every_runner_writes_the_same_bytes(many_pets, converted, tmp_path, flags):
    done = run(many_pets, tmp_path / "out", *flags)
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "out") == converted[0]


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bytes(many_pets, converted, tmp_path):
    expected, duration_s = converted
    seed = int(np.random.default_rng().integers(1 << 30))
    print("seed", seed)
    rng = np.random.default_rng(seed)
    out = tmp_path / "out"
    for _ in range(4):
        process = start(many_pets, out)
        time.sleep(rng.uniform(0, duration_s))
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for_workers(out)
        is_finished = (out / "manifest.json").exists()
        done = run_module("-m", "petseg.cli.verify", f"--data_dir={out}", "--quick")
        assert done.returncode == (0 if is_finished else 2)
        if is_finished:
            shutil.rmtree(out)
    done = run(many_pets, out)
    assert done.returncode == 0, done.stderr
    assert files_of(out) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_it_in_one_line_and_it_can_be_resumed(
    many_pets, converted, tmp_path, number, status
):
    expected, _ = converted
    out = tmp_path / "out"
    process = start(many_pets, out)
    # Until then python is loading, and handles no signal.
    wait_until((out / shard_files.WORK_DIR).exists, "work folder", lambda: process.poll() is None)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == status
    assert "stopped by SIG" in stderr
    assert "Traceback" not in stderr
    assert not (out / "manifest.json").exists()
    assert not list(out.rglob("*.tmp-*"))
    assert run(many_pets, out).returncode == 0
    assert files_of(out) == expected


@pytest.mark.slow
def test_a_disk_that_fills_up_is_one_line_and_no_data_set(many_pets, converted, tmp_path):
    out = tmp_path / "out"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    done = run_with_limit(many_pets, out, limit)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: --output_dir: cannot write")
    assert "File too large" in line
    assert "Traceback" not in done.stderr
    assert not (out / "manifest.json").exists()
    assert run(many_pets, out).returncode == 0
    assert files_of(out) == converted[0]


@pytest.mark.slow
def test_a_killed_worker_is_reported_in_one_line(many_pets, converted, tmp_path):
    out = tmp_path / "out"
    process = start(many_pets, out)
    wait_until((out / shard_files.WORK_DIR).exists, "work folder", lambda: process.poll() is None)
    time.sleep(converted[1] / 6)
    psutil.Process(process.pid).children()[0].kill()
    _, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "a worker process was killed" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr
    assert run(many_pets, out).returncode == 0
    assert files_of(out) == converted[0]


@pytest.mark.slow
def test_a_bad_input_in_a_worker_stops_the_run_when_that_is_asked_for(many_pets, tmp_path):
    raw = shutil.copytree(many_pets, tmp_path / "raw")
    (raw / "images" / "Slate_107.jpg").write_bytes(b"")
    done = run(raw, tmp_path / "out", "--on_bad=fail")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: --on_bad=fail: Slate_107: image is empty (0 bytes)"
    )


@pytest.mark.slow
def test_smaller_pictures_are_the_same_for_any_number_of_workers(many_pets, tmp_path):
    for workers in (1, 3):
        flags = ["--short_side=96", f"--workers={workers}"]
        done = run(many_pets, tmp_path / str(workers), *flags)
        assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "1") == files_of(tmp_path / "3")
