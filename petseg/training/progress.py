"""How a run tells its progress: a bar in a terminal, a line now and then in a log."""

import sys
import time

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 30


class Progress:
    """A bar over steps, or lines where standard error is no terminal."""

    def __init__(
        self,
        first_step: int,
        total_steps: int,
        is_silent: bool = False,
        title: str = "train",
        unit: str = "step",
    ):
        """`is_silent`: this is one of several hosts, and another one tells."""
        self._unit = unit
        self._is_silent = is_silent
        self._is_terminal = sys.stderr.isatty() and not is_silent
        self._first_step, self._total_steps = first_step, total_steps
        self._started_s = self._last_line_s = time.monotonic()
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            desc=title,
            unit=unit,
            disable=not self._is_terminal,
        )

    def advance(self, steps: int) -> None:
        """So many more steps are done."""
        self._bar.update(steps)

    def show(self, step: int, text: str) -> None:
        """Shows the latest figures."""
        self._bar.set_postfix_str(text, refresh=False)
        now_s = time.monotonic()
        if not self._is_terminal and now_s - self._last_line_s >= _SECONDS_BETWEEN_LINES:
            self._last_line_s = now_s
            done = max(step - self._first_step, 1)
            left_s = (now_s - self._started_s) / done * (self._total_steps - step)
            clock = tqdm.format_interval(left_s)
            told = f"  {text}" if text else ""
            self.say(f"{self._unit} {step}/{self._total_steps}{told}  {clock} left")

    def say(self, line: str) -> None:
        """A line that stays, above the bar."""
        if self._is_silent:
            return
        self._bar.write(line, file=sys.stderr)
        sys.stderr.flush()

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self._bar.close()
