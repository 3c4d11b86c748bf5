"""Bars on a terminal, lines in a log, nothing cut: by a clock of the test's own."""

import io
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petseg import progress
from petseg.progress import Progress, fit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, _):
        raise BrokenPipeError

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test sets."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def train(**options):
    epoch = {"epoch": lambda step: f"epoch {step / 100:.1f} of 16.0"}
    return Progress(0, 1600, title="train", unit="step", **(epoch | options))


def test_a_log_has_a_line_every_half_minute_with_what_is_left(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    with train() as shown:
        shown.advance(100)  # the first one, whose 50 s are not what the others take
        clock[0] += 29
        shown.advance(100)
        assert log.getvalue() == ""
        clock[0] += 1
        shown.show("loss 0.5000", "8.1 images/s")
        shown.advance(100)
    assert log.getvalue() == (
        "epoch 3.0 of 16.0  19%  03:15 left  step 300/1600  loss 0.5000  8.1 images/s\n"
    )


def test_a_log_says_at_once_what_cannot_be_counted_and_sometimes_what_can(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    shown = train()
    with shown.during("compiling the training step"):
        assert log.getvalue() == "epoch 0.0 of 16.0  0%  compiling the training step  step 0/1600\n"
    shown.advance(100)
    clock[0] += 10
    shown.advance(100)
    with shown.during("scoring", 9, "batches") as advance:
        for _ in range(3):
            clock[0] += 10
            advance()
    lines = log.getvalue().splitlines()
    assert lines[1:] == ["epoch 2.0 of 16.0  12%  scoring 2/9 batches  07:00 left  step 200/1600"]


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_a_bar_fits_the_terminal_and_nothing_is_cut(clock, monkeypatch, columns):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda _: (columns, 24))
    parts = ["loss 0.1234", "1234.5 images/s", "input wait 12%"]
    with train() as shown:
        shown.show(*parts)
        for _ in range(3):
            clock[0] += 60
            shown.advance(400)
        with shown.during("scoring", 120, "batches") as advance:
            clock[0] += 1
            advance()
    drawn = re.split(r"[\r\n]+", terminal.getvalue())
    assert max(map(len, drawn)) <= columns
    scoring = [line for line in drawn if "scoring 1/120 batches" in line]
    assert scoring and all("epoch 12.0 of 16.0  75%" in line for line in scoring)
    assert all(" left" in line for line in scoring)
    for line in drawn:
        for word in re.split(r"  +", line.partition(" |")[0]):
            known = ("epoch ", "scoring ", "step ", *parts)
            assert not word or word.endswith(("%", " left")) or word.startswith(known), line
    assert any(part in line for line in drawn for part in parts[:1]) == (columns >= 80)


@given(
    st.lists(st.text(st.characters(codec="ascii", categories=["L"]), min_size=1)),
    st.integers(0, 60),
)
def test_parts_fit_whole_or_not_at_all(parts, columns):
    line = fit(parts, columns)
    assert len(line) <= columns
    rest = iter(parts)
    assert all(part in rest for part in line.split("  ") if part)


def test_a_terminal_that_is_gone_ends_no_work(monkeypatch):
    for before in (Terminal(), Gone()):
        monkeypatch.setattr(sys, "stderr", before)
        with train() as shown:
            monkeypatch.setattr(sys, "stderr", Gone())
            shown.advance()
            shown.print_line("a")
            shown.warn("b")
            shown.show("c")
            assert shown.done == 1


def test_silenced_progress_still_warns(monkeypatch):
    monkeypatch.setattr(progress, "_is_silenced", True)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with train() as shown:
        shown.advance(5)
        shown.print_line("a line")
        with shown.during("compiling"):
            shown.show("loss 1")
        progress.print_line("another")
        assert terminal.getvalue() == ""
        shown.warn("warning: x")
    assert terminal.getvalue() == "warning: x\n"
    assert (shown.done, shown.total) == (5, 1600)


def test_other_hosts_say_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with train(is_silent=True) as shown:
        shown.print_line("a")
        shown.warn("b")
        shown.advance()
    assert terminal.getvalue() == ""
