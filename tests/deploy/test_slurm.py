"""The batch script of deploy/slurm; an srun and an scontrol write down how they are called."""

import os
import re
import subprocess

import pytest
from testing.command_processes import ROOT
from testing.commands import assert_one_line_error, run_module

SCRIPT = ROOT / "deploy" / "slurm" / "train.sbatch"
USERS = ["--config=quickstart", "--workdir=a run", "--config.data.dir=OUT"]


def run_script(folder, status):
    """The calls that the script makes where srun ends with a status, and its own status."""
    for name, ends in (("srun", status), ("scontrol", 0)):
        program = folder / name
        program.write_text(f'#!/bin/bash\nprintf "%s\\0" {name} "$@" > "$0.call"\nexit {ends}\n')
        program.chmod(0o755)
    environment = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "SLURM_JOB_ID": "71"}
    done = subprocess.run(
        ["bash", SCRIPT, *USERS], env=environment, capture_output=True, check=False, timeout=60
    )
    calls = {}
    for name in ("srun", "scontrol"):
        written = folder / f"{name}.call"
        calls[name] = written.read_text().split("\0")[1:-1] if written.exists() else None
    return calls, done.returncode


@pytest.mark.parametrize("status", [0, 1, 2, 137, 143])
def test_a_job_is_queued_again_only_if_it_was_stopped_and_saved(tmp_path, status):
    calls, ended = run_script(tmp_path, status)
    assert ended == status
    assert calls["scontrol"] == (["requeue", "71"] if status == 143 else None)


def test_the_command_of_the_script_is_one_that_petseg_takes(tmp_path):
    calls, _ = run_script(tmp_path, 0)
    program, *arguments = calls["srun"]
    assert program == "petseg-train" and arguments[:3] == USERS
    outside = {name: "" for name in os.environ if name.startswith("SLURM_")}
    there = f"--config.data.dir={tmp_path}"
    done = run_module("-m", "petseg.train", *arguments, there, **outside)
    assert_one_line_error(done, 2, "config.devices.cluster=slurm", "start every task by srun")


def test_the_signal_goes_to_petseg_and_leaves_it_time():
    (signal,) = re.findall(r"^#SBATCH --signal=(\S+)$", SCRIPT.read_text(), re.M)
    name, seconds = re.fullmatch(r"(\w+)@(\d+)", signal).groups()  # B: would be bash alone
    assert name == "TERM" and int(seconds) >= 60


@pytest.mark.parametrize("name", ["train.sbatch", "rehearse.sh"])
def test_a_script_is_whole(name):
    done = subprocess.run(["bash", "-n", SCRIPT.parent / name], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
