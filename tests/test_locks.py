import errno
import fcntl
import multiprocessing
import os

import pytest

from petseg import locks
from petseg.errors import UserError


def test_a_second_writer_is_refused_and_one_after_the_first_is_not(tmp_path):
    path = str(tmp_path / "lock")
    with (
        locks.only_writer(path, 0, "busy"),
        pytest.raises(UserError, match="in use"),
        locks.only_writer(path, 0.2, "in use"),
    ):
        pytest.fail("a second writer came in")
    with locks.only_writer(path, 0, "busy"):
        pass


def _hold_and_die(path, held):
    with locks.only_writer(path, 0, "busy"):
        held.set()
        os.kill(os.getpid(), 9)


def test_a_lock_ends_with_a_killed_process(tmp_path):
    context = multiprocessing.get_context("forkserver")
    held = context.Event()
    process = context.Process(target=_hold_and_die, args=(str(tmp_path / "lock"), held))
    process.start()
    process.join(300)
    assert held.is_set()
    assert process.exitcode == -9
    with locks.only_writer(str(tmp_path / "lock"), 0, "busy"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_named_once_and_written_to(tmp_path, monkeypatch, capsys, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    entered = []
    with locks.only_writer(str(tmp_path / "lock"), 0, "another command writes"):
        entered.append(True)
    assert entered
    assert capsys.readouterr().err == (
        f"warning: the disk of {tmp_path} gives no locks ({os.strerror(number)}): "
        "let no second command write there at the same time\n"
    )


def test_another_error_of_the_disk_is_raised(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(OSError, match="Input/output"),
        locks.only_writer(str(tmp_path / "lock"), 0, "busy"),
    ):
        pytest.fail("entered without a lock")


def test_an_error_within_is_not_taken_for_one_of_the_lock(tmp_path):
    with (
        pytest.raises(OSError, match="No locks"),
        locks.only_writer(str(tmp_path / "lock"), 0, "busy"),
    ):
        raise OSError(errno.ENOLCK, "No locks")
