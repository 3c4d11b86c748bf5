"""The hosts of a Slurm step, from the variables that srun sets for each of its tasks.

TensorFlow's own resolver sorts machines by the characters of their names, n10 before n9, though
Slurm numbers tasks in the order of its list, and gives all jobs of a machine the same ports.
"""

import itertools
import re
from collections.abc import Iterator, Mapping

_FIRST_PORT = 10_000  # below the ports that systems give to outgoing connections
_PORTS_A_STEP = 20
_STEPS = 1000


def hosts_of_step(variables: Mapping[str, str]) -> tuple[list[str], int]:
    """HOST:PORT of every task of the step, in the order of their numbers, and this task's number.

    The ports follow from the numbers of job and step, so that jobs that share a machine do not
    meet.

    Args:
      variables: The environment of a task that srun started.

    Raises:
      ValueError: A variable is missing or malformed, or tasks are not in the order of machines.
    """
    try:
        names = _expand_hosts(variables["SLURM_STEP_NODELIST"])
        counts = _expand_counts(variables["SLURM_STEP_TASKS_PER_NODE"])
        index = int(variables["SLURM_PROCID"])
        job, step = int(variables["SLURM_JOB_ID"]), int(variables["SLURM_STEP_ID"])
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is not set: start every task by srun") from error
    if len(names) != len(counts):
        raise ValueError(f"Slurm names {len(names)} machines, and tasks of {len(counts)}")
    first = _FIRST_PORT + (job * 8 + step) % _STEPS * _PORTS_A_STEP
    counted = zip(names, counts, strict=True)
    tasks = [(name, first + i) for name, count in counted for i in range(count)]
    if not 0 <= index < len(tasks):
        raise ValueError(f"SLURM_PROCID={index}, but the step has {len(tasks)} tasks")
    here = variables.get("SLURMD_NODENAME", tasks[index][0])
    if here != tasks[index][0]:
        raise ValueError(
            f"task {index} runs on {here}, not on {tasks[index][0]}: give srun --distribution=block"
        )
    return [f"{name}:{port}" for name, port in tasks], index


def _expand_hosts(text: str) -> list[str]:
    """Names of a Slurm list such as 'n[1-2,07],m5': n1, n2, n07, m5."""
    names = []
    for part in re.split(r",(?![^\[]*\])", text):
        # Text, what is in brackets, text, ...
        pieces = re.split(r"\[([^\[\]]+)\]", part)
        choices = [_numbers(p) if i % 2 else [p] for i, p in enumerate(pieces)]
        names += ["".join(chosen) for chosen in itertools.product(*choices)]
    if not all(re.fullmatch(r"[\w.-]+", name) for name in names):
        raise ValueError(f"SLURM_STEP_NODELIST={text!r} is not a list of machines")
    return names


def _numbers(text: str) -> Iterator[str]:
    """Numbers of ranges such as '08-10,12', as wide as the first of their range."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield str(number).zfill(len(first))


def _expand_counts(text: str) -> list[int]:
    """Numbers of tasks such as '3(x2),1': 3, 3, 1."""
    counts = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if not found:
            raise ValueError(f"SLURM_STEP_TASKS_PER_NODE={text!r} is not a list of numbers")
        counts += [int(found[1])] * int(found[2] or 1)
    return counts
