"""Runs candidates, each in its own process, and prints their speed and memory."""

import dataclasses
import json
import multiprocessing
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence

import psutil

from petseg.errors import FaultFound

_SAMPLE_S = 0.5  # between two samples of the memory


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One thing to measure.

    Attributes:
      name: the name in the output.
      run: does the work, in its own process, and returns the speed; a function of a module
        or a functools.partial of one.
      workers: number of threads or processes that it may use.
    """

    name: str
    run: Callable[[], float]
    workers: int


@dataclasses.dataclass(frozen=True)
class Measured:
    """Speed of one run, and the peak memory in MiB of its processes together.

    Memory is the proportional set size: memory that processes share counts once.
    """

    speed: float
    peak_mib: float


def run_rounds(
    candidates: Sequence[Candidate], rounds: int, unit: str
) -> dict[tuple[str, int], list[Measured]]:
    """Runs every candidate once a round, so that other load affects all alike.

    Returns:
      (name, workers) -> one result for each round.
    """
    results: dict[tuple[str, int], list[Measured]] = {}
    for round_ in range(rounds):
        for candidate in candidates:
            measured = _measure(candidate)
            results.setdefault((candidate.name, candidate.workers), []).append(measured)
            print(
                f"round {round_ + 1} of {rounds}: {candidate.name}, {candidate.workers} worker(s): "
                f"{measured.speed:,.1f} {unit}, {measured.peak_mib:,.0f} MiB",
                file=sys.stderr,
            )
    return results


def print_ratio(
    stage: str,
    results: Mapping[tuple[str, int], Sequence[Measured]],
    name: str,
    other: str,
    **more: object,
) -> None:
    """Prints the median over the rounds of the ratio of two candidates, at their most workers."""

    def most_workers(wanted: str) -> Sequence[Measured] | None:
        keys = [key for key in results if key[0] == wanted]
        return results[max(keys)] if keys else None

    measured, reference = most_workers(name), most_workers(other)
    if measured and reference:
        ratios = [a.speed / b.speed for a, b in zip(measured, reference, strict=True)]
        print_line(stage, f"{name}/{other}", ratios, "ratio", **more)


def print_line(stage: str, name: str, values: Sequence[float], unit: str, **more: object) -> None:
    """Prints one JSON line with median, minimum and maximum."""
    digits = 3 if unit == "ratio" else 1
    line = {
        "stage": stage,
        "name": name,
        "value": round(statistics.median(values), digits),
        "unit": unit,
        "min": round(min(values), digits),
        "max": round(max(values), digits),
        "runs": len(values),
        **more,
    }
    print(json.dumps(line), flush=True)


def _measure(candidate: Candidate) -> Measured:
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=_run, args=(candidate.run, queue))
    process.start()
    peak_bytes = 0
    while process.is_alive():
        process.join(_SAMPLE_S)
        peak_bytes = max(peak_bytes, _memory_bytes(process.pid))
    if process.exitcode:
        raise FaultFound(f"{candidate.name} failed with status {process.exitcode}")
    return Measured(queue.get(), peak_bytes / (1 << 20))


def _run(function: Callable[[], float], queue: object) -> None:
    queue.put(function())


def _memory_bytes(pid: int) -> int:
    """Memory that a process and its descendants hold now."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(member.memory_full_info().pss for member in family)
    except psutil.Error:  # one of them has just ended
        return 0
