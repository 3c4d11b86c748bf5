"""Candidates, each run in a process of its own, and what they took."""

import dataclasses
import json
import multiprocessing
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence

import psutil

from petseg.errors import FaultFound

_SAMPLE_S = 0.5  # between two looks at the memory


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One thing to measure.

    Attributes:
      name: as printed.
      run: does it in a process of its own and returns its speed; a module's function or
        a functools.partial of one.
      workers: threads or processes that it may use.
    """

    name: str
    run: Callable[[], float]
    workers: int


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run: its speed, and the most memory that its processes held together.

    Memory is the proportional set size: what several processes share counts once.
    """

    speed: float
    peak_mib: float


def run_rounds(
    candidates: Sequence[Candidate], rounds: int, unit: str
) -> dict[tuple[str, int], list[Measured]]:
    """Every round runs every candidate once: what else the machine does meets all alike.

    Returns:
      By name and workers, one result a round.
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
    """The median of the rounds' own ratios of two candidates, each with its most workers."""

    def most_workers(wanted: str) -> Sequence[Measured] | None:
        found = [key for key in results if key[0] == wanted]
        return results[max(found)] if found else None

    ours, theirs = most_workers(name), most_workers(other)
    if ours and theirs:
        ratios = [a.speed / b.speed for a, b in zip(ours, theirs, strict=True)]
        print_line(stage, f"{name}/{other}", ratios, "ratio", **more)


def print_line(stage: str, name: str, values: Sequence[float], unit: str, **more: object) -> None:
    """One JSON line: median, least and most."""
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
    """What a process and its descendants hold at this moment."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(member.memory_full_info().pss for member in family)
    except psutil.Error:  # one of them has just ended
        return 0
