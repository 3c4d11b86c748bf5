"""Progress of long work: a bar in a terminal or a notebook, now and then a line in a log."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 30
_SECONDS_BETWEEN_DRAWINGS = 0.1
_BAR_COLUMNS = 14  # at least, with the space and the ends
_USUAL_COLUMNS = 80
tqdm.monitor_interval = 0  # no monitor thread, because a process with threads cannot fork
_is_silenced = False


def silence() -> None:
    """Shows no progress from here on, as --quiet asks."""
    global _is_silenced  # noqa: PLW0603  (of the process, as standard error is)
    _is_silenced = True


def print_line(line: str) -> None:
    """Prints a line about the work on standard error, unless that is silenced."""
    if not _is_silenced:
        _write(line)


class Progress:
    """A bar, or lines where standard error is neither a terminal nor a notebook's.

    Attributes:
      done: Units that are done.
      total: Units in all.
    """

    def __init__(
        self,
        first: int,
        total: float,
        *,
        title: str,
        unit: str,
        is_silent: bool = False,
        epoch: Callable[[int], str] | None = None,
    ):
        """Starts at `first` of `total` units.

        Args:
          first: Units that were done before.
          total: Units in all.
          title: What is done.
          unit: What is counted, in the singular.
          is_silent: Show nothing at all, as on all hosts but the first.
          epoch: Units done -> such as 'epoch 3.2 of 16'; by default none is shown.
        """
        self.done: float = first
        self.total = total
        self._title, self._unit, self._epoch, self._is_mute = title, unit, epoch, is_silent
        self._figures: tuple[str, ...] = ()
        self._activity = ""
        # The first step takes longer than the others: the time that is left follows from those.
        self._since_s, self._since_done = time.monotonic(), first
        self._is_first = True
        self._last_line_s = self._last_drawn_s = time.monotonic()
        self._is_hidden = is_silent or _is_silenced
        self._bar = None if self._is_hidden else _open_bar(first, total, title, self._text)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def advance(self, count: float = 1) -> None:
        """Counts units that were done."""
        self.done += count
        if self._is_first:
            self._is_first = False
            if self.total - self.done > 0:
                self._since_s, self._since_done = time.monotonic(), self.done
        if self._bar is not None:
            with contextlib.suppress(OSError):  # the terminal may be gone
                self._bar.update(count)
        self._print_if_due()

    def show(self, *figures: str) -> None:
        """Shows these figures from now on, the most important one first."""
        self._figures = figures
        self._draw()

    @contextlib.contextmanager
    def during(self, what: str, total: int = 0, unit: str = "") -> Iterator[Callable[[], None]]:
        """Shows that something else than the counted units is done for a while.

        Args:
          what: What is done.
          total: Its parts; 0 if they cannot be counted. A log then has a line at once.
          unit: What a part is called, in the plural.

        Returns:
          A function to call after each part.
        """
        finished = 0

        def advance() -> None:
            nonlocal finished
            finished += 1
            self._activity = f"{what} {finished}/{total} {unit}"
            self._draw()
            self._print_if_due()

        self._activity = f"{what} 0/{total} {unit}" if total else what
        self._draw()
        if not total:
            self._last_line_s -= _SECONDS_BETWEEN_LINES
            self._print_if_due()
        try:
            yield advance
        finally:
            self._activity = ""
            self._draw()

    def print_line(self, line: str) -> None:
        """Prints a line on standard error, above the bar."""
        if not self._is_hidden:
            _write(line)

    def warn(self, line: str) -> None:
        """The same, where progress is silenced too."""
        if not self._is_mute:
            _write(line)

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()

    def _parts(self) -> list[str]:
        """What is known, the most important first."""
        share = f"{self.done / self.total:.0%}" if self.total else ""
        left_s = self._left_s()
        left = "" if left_s is None else f"{tqdm.format_interval(left_s)} left"
        head = self._epoch(self.done) if self._epoch else self._title
        counted = f"{self._unit} {self.done:.0f}/{self.total:.0f}"
        parts = [head, share, self._activity, left, counted, *self._figures]
        return [part for part in parts if part]

    def _left_s(self) -> float | None:
        share = self.done - self._since_done
        if share <= 0:
            return None
        return (time.monotonic() - self._since_s) / share * (self.total - self.done)

    def _text(self, columns: int) -> str:
        return fit(self._parts(), columns - _BAR_COLUMNS)

    def _draw(self) -> None:
        now_s = time.monotonic()
        if self._bar is not None and now_s - self._last_drawn_s >= _SECONDS_BETWEEN_DRAWINGS:
            self._last_drawn_s = now_s
            with contextlib.suppress(OSError):
                self._bar.refresh()

    def _print_if_due(self) -> None:
        now_s = time.monotonic()
        is_due = now_s - self._last_line_s >= _SECONDS_BETWEEN_LINES
        if self._bar is None and not self._is_hidden and is_due:
            self._last_line_s = now_s
            _write("  ".join(self._parts()))


def fit(parts: Sequence[str], columns: int) -> str:
    """As many parts as fit into some columns, from the first on, none of them cut."""
    line = ""
    for part in parts:
        longer = f"{line}  {part}" if line else part
        if len(longer) > columns:
            continue
        line = longer
    return line


class _Bar(tqdm):
    """A bar after a text that is made to fit the terminal, whose size may change."""

    def __init__(self, text: Callable[[int], str], **options: Any):  # noqa: ANN401  (tqdm's)
        self._text = text
        bar_format = "{text} |{bar}|"
        super().__init__(bar_format=bar_format, dynamic_ncols=True, file=sys.stderr, **options)

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the bar's format may name."""
        values = super().format_dict
        return {**values, "text": self._text(values["ncols"] or _USUAL_COLUMNS)}


def _open_bar(first: int, total: float, title: str, text: Callable[[int], str]) -> tqdm | None:
    """A bar, or None in a log."""
    if _in_notebook():
        # A widget where ipywidgets is installed, else text.
        from tqdm.auto import tqdm as notebook_tqdm

        return notebook_tqdm(total=total, initial=first, desc=title)
    if not sys.stderr.isatty():
        return None
    try:
        return _Bar(text, total=total, initial=first)
    except OSError:  # the terminal is gone
        return None


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


def _write(line: str) -> None:
    # Nobody may read it any more: that ends no training.
    with contextlib.suppress(OSError):
        tqdm.write(line, file=sys.stderr)
        sys.stderr.flush()
