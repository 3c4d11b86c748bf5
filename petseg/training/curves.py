"""The training curves: means over every step since their last point."""

import time
from collections.abc import Mapping

import numpy as np


class CurveWindow:
    """Sums over the steps since the last point.

    A checkpoint keeps them, so that the point after a resume is that of an uninterrupted run.
    """

    def __init__(self, sums: Mapping[str, float]):
        """Continues from `sums`, those of a checkpoint, or {}."""
        self._sums = {name: value for name, value in sums.items() if name != "steps"}
        self._steps = int(sums.get("steps", 0))
        self.restart_clock()

    @property
    def sums(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {**self._sums, "steps": self._steps}

    def restart_clock(self) -> None:
        """Leaves the time until now out of the speed."""
        self._timed_steps, self._wait_s, self._started_s = 0, 0.0, time.perf_counter()

    def add(self, rows: Mapping[str, np.ndarray], wait_s: float) -> None:
        """Adds values of some steps, float32 [steps] each, and how long they waited for input."""
        self._wait_s += wait_s
        # One after the other and in float64: however many steps came in one call.
        for name, values in rows.items():
            for value in values.tolist():
                self._sums[name] = self._sums.get(name, 0.0) + value
        count = len(next(iter(rows.values())))
        self._steps += count
        self._timed_steps += count

    def close(self, batch_size: int) -> dict[str, float]:
        """Means and speeds since the last point; starts the next one."""
        means = {name: total / self._steps for name, total in self._sums.items()}
        elapsed_s = time.perf_counter() - self._started_s
        means["input/images_per_second"] = self._timed_steps * batch_size / elapsed_s
        means["input/input_wait_fraction"] = self._wait_s / elapsed_s
        self._sums, self._steps = {}, 0
        self.restart_clock()
        return means
