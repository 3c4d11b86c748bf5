"""Statuses and last lines, in this process or in one that does not load TensorFlow."""

import errno
import os
import signal
import subprocess
import sys
import threading

import pytest
from testing.command_processes import ROOT

from petseg.cli import ending
from petseg.errors import FaultFound, StoppedBySignal, UserError


def raising(error):
    def main(_):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("no"), 2, "error: no"),
        (FaultFound("bad"), 1, "error: bad"),
        (MemoryError(), 1, "error: the memory of this machine does not suffice"),
        (OSError(errno.ENOSPC, "No space left", "a.png"), 1, "error: a.png: No space left"),
        (OSError(errno.EROFS, "Read-only"), 1, "error: output: Read-only"),
        (StoppedBySignal(15, "at step 3"), 143, "stopped by SIGTERM at step 3"),
        (KeyboardInterrupt(), 130, "stopped by SIGINT before it was done"),
    ],
)
def test_each_end_has_its_status_and_one_line(error, status, line, capfd):
    assert ending.call(raising(error), ()) == status
    assert capfd.readouterr() == ("", line + "\n")


def test_an_error_of_petseg_itself_is_raised():
    with pytest.raises(OSError, match="odd"):
        ending.call(raising(OSError(errno.ECHILD, "odd")), ())
    with pytest.raises(ValueError, match="bug"):
        ending.call(raising(ValueError("bug")), ())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unwinds_the_stack(number, capfd):
    if signal.getsignal(number) == signal.SIG_IGN:  # the tests run under nohup
        signal.signal(number, signal.SIG_DFL)
    before, unwound = signal.getsignal(number), []

    def main(_):
        try:
            os.kill(os.getpid(), number)
            threading.Event().wait(300)
        finally:
            unwound.append(True)

    assert ending.call(main, ()) == 128 + number
    assert unwound == [True]
    assert signal.getsignal(number) == before
    name = signal.Signals(number).name
    assert capfd.readouterr().err == f"stopped by {name} before it was done\n"


def test_under_nohup_a_hangup_is_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ending.call(lambda _: os.kill(os.getpid(), signal.SIGHUP), ()) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_command_may_run_in_another_thread():
    statuses = []
    thread = threading.Thread(
        target=lambda: statuses.append(ending.call(lambda names: print(*names), ("a", "b")))
    )
    thread.start()
    thread.join(300)
    assert statuses == [0]


def run(code, stdout):
    return subprocess.run(
        [sys.executable, "-c", f"import sys; from petseg.cli import ending; {code}"],
        cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=600,
    )  # fmt: skip


@pytest.mark.parametrize("lines", [1, 100_000])
def test_output_that_nobody_reads_ends_in_silence(lines):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        print_many = f"[print(i) for i in range({lines})]"
        done = run(f"sys.exit(ending.call(lambda _: {print_many}, ()))", closed)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_output_to_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        done = run("sys.exit(ending.call(print, ()))", full)
    assert (done.returncode, done.stderr) == (1, "error: output: No space left on device\n")


def test_ctrl_c_while_a_command_loads_is_one_line():
    done = run("ending.end_early_interrupts_in_one_line(); raise KeyboardInterrupt", None)
    assert (done.returncode, done.stderr) == (130, "stopped by SIGINT before it began\n")


def test_other_errors_while_a_command_loads_are_shown():
    done = run("ending.end_early_interrupts_in_one_line(); raise ValueError('bug')", None)
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "ValueError: bug" in done.stderr
