"""RUN/evaluation: the figures of evaluations, as JSON.

RUN/evaluation/validation_by_step.json   while it was trained, by step
RUN/evaluation/seconds_by_step.json      how long it had been trained until then
RUN/evaluation/SPLIT.json                what petseg-evaluate wrote
"""

import dataclasses
import json
from typing import Annotated, TypeVar

import pydantic
from etils import epath

from petseg.data import json_file
from petseg.data.json_file import Count
from petseg.errors import UserError

T = TypeVar("T")

# A metric's value, None where it has none; by class for metrics of classes.
Figures = dict[str, float | dict[str, float | None] | None]
_FiguresByStep = dict[Count, Figures]
_SecondsByStep = dict[Count, Annotated[float, pydantic.Field(ge=0)]]
_FOLDER = "evaluation"
_BY_STEP = "validation_by_step.json"
_SECONDS = "seconds_by_step.json"


@pydantic.with_config({**json_file.STRICT, "extra": "ignore"})
@dataclasses.dataclass(frozen=True)
class _Report:
    """What is read of a SPLIT.json."""

    checkpoint_step: Count
    split: str
    mean_iou: float | None


def evaluation_folder(run_dir: str) -> epath.Path:
    """RUN/evaluation; creates it if it does not exist."""
    folder = epath.Path(run_dir) / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_evaluations(run_dir: str) -> dict[int, Figures]:
    """The figures of every evaluation during training, by step; UserError if damaged."""
    by_step = _read(run_dir, _BY_STEP, _FiguresByStep)
    for step, figures in by_step.items():
        if isinstance(figures.get("mean_iou", {}), dict):
            raise _damaged(_path(run_dir, _BY_STEP), f"{step} has no mean_iou")
    return by_step


def add_evaluation(run_dir: str, step: int, figures: dict) -> None:
    """Records the figures of a step; removes those of later steps, which were lost."""
    _add(run_dir, _BY_STEP, _FiguresByStep, step, figures)


def read_seconds(run_dir: str) -> dict[int, float]:
    """Seconds of training up to each evaluation, by step, without loading; UserError if damaged."""
    return _read(run_dir, _SECONDS, _SecondsByStep)


def add_seconds(run_dir: str, step: int, seconds: float) -> None:
    """Records the seconds up to a step; removes those of later steps, which were lost."""
    _add(run_dir, _SECONDS, _SecondsByStep, step, round(seconds, 1))


def evaluations_of(run_dir: str, step: int) -> dict[str, dict]:
    """What petseg-evaluate wrote about a checkpoint, by split; UserError if damaged."""
    found, folder = {}, epath.Path(run_dir) / _FOLDER
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix != ".json" or path.name in (_BY_STEP, _SECONDS):
            continue
        report = _read(run_dir, path.name, _Report)
        if report.checkpoint_step == step:
            found[report.split] = _read(run_dir, path.name, dict[str, pydantic.JsonValue])
    return dict(sorted(found.items()))


def write_text(path: epath.Path, text: str) -> None:
    """Writes under a temporary name, then renames."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _path(run_dir: str, name: str) -> epath.Path:
    return epath.Path(run_dir) / _FOLDER / name


def _read(run_dir: str, name: str, schema: type[T]) -> T | dict:
    """Reads a file of RUN/evaluation; {} if there is none."""
    path = _path(run_dir, name)
    try:
        return json_file.read(path, schema)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: epath.Path, reason: str) -> UserError:
    return UserError(
        f"{path} is damaged: {reason}; move it away (its figures are lost, the run is not)"
    )


def _add(run_dir: str, name: str, schema: type, step: int, value: object) -> None:
    kept = {s: known for s, known in _read(run_dir, name, schema).items() if s < step}
    content = json.dumps({**kept, step: value}, indent=1) + "\n"
    write_text(evaluation_folder(run_dir) / name, content)
