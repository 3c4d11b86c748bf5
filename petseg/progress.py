"""Progress of long work: a bar in a terminal or a notebook, now and then a line in a log."""

import sys
import time

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 30
_is_silenced = False


def silence() -> None:
    """Shows no progress from here on, as --quiet asks."""
    global _is_silenced  # noqa: PLW0603  (of the process, as standard error is)
    _is_silenced = True


class Progress:
    """A bar, or lines where standard error is neither a terminal nor a notebook's."""

    def __init__(
        self,
        first: int,
        total: int,
        *,
        is_silent: bool = False,
        title: str = "train",
        unit: str = "step",
    ):
        """Starts at `first` of `total` units.

        Args:
          first: Units that were done before.
          total: Units in all.
          is_silent: Show nothing, as on all hosts but the first.
          title: Title of the bar.
          unit: What is counted, in the singular.
        """
        is_notebook = _in_notebook()
        is_silent = is_silent or _is_silenced
        self._unit, self._is_silent = unit, is_silent
        self._has_bar = (sys.stderr.isatty() or is_notebook) and not is_silent
        self._first, self._total = first, total
        self._started_s = self._last_line_s = time.monotonic()
        self._bar = _bar_class(is_notebook)(
            total=total, initial=first, desc=title, unit=unit, disable=not self._has_bar
        )

    def advance(self, count: int) -> None:
        """Counts units that were done."""
        self._bar.update(count)

    def show(self, done: int, text: str) -> None:
        """Shows the latest figures beside the bar, or in a line every 30 seconds."""
        self._bar.set_postfix_str(text, refresh=False)
        now_s = time.monotonic()
        if not self._has_bar and now_s - self._last_line_s >= _SECONDS_BETWEEN_LINES:
            self._last_line_s = now_s
            share = max(done - self._first, 1)
            left_s = (now_s - self._started_s) / share * (self._total - done)
            figures = f"  {text}" if text else ""
            left = tqdm.format_interval(left_s)
            self.print_line(f"{self._unit} {done}/{self._total}{figures}  {left} left")

    def print_line(self, line: str) -> None:
        """Prints a line on standard error, above the bar."""
        if self._is_silent:
            return
        self._bar.write(line, file=sys.stderr)
        sys.stderr.flush()

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


def _bar_class(is_notebook: bool) -> type[tqdm]:
    if not is_notebook:
        return tqdm
    # A widget where ipywidgets is installed, else text.
    from tqdm.auto import tqdm as notebook_tqdm

    return notebook_tqdm
