"""RUN/evaluation: the figures of evaluations, as JSON.

RUN/evaluation/validation_by_step.json   while it was trained, by step
RUN/evaluation/seconds_by_step.json      how long it had been trained until then
RUN/evaluation/SPLIT.json                what petseg-evaluate wrote
"""

import json

from etils import epath

_FOLDER = "evaluation"
_BY_STEP = "validation_by_step.json"
_SECONDS = "seconds_by_step.json"


def evaluation_folder(run_dir: str) -> epath.Path:
    """RUN/evaluation; creates it if it does not exist."""
    folder = epath.Path(run_dir) / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_evaluations(run_dir: str) -> dict[int, dict]:
    """The figures of every evaluation during training, by step."""
    return _read_by_step(run_dir, _BY_STEP)


def add_evaluation(run_dir: str, step: int, figures: dict) -> None:
    """Records the figures of a step; removes those of later steps, which were lost."""
    _add(run_dir, _BY_STEP, step, figures)


def read_seconds(run_dir: str) -> dict[int, float]:
    """Seconds of training up to each evaluation, loading left out, by step."""
    return _read_by_step(run_dir, _SECONDS)


def add_seconds(run_dir: str, step: int, seconds: float) -> None:
    """Records the seconds up to a step; removes those of later steps, which were lost."""
    _add(run_dir, _SECONDS, step, round(seconds, 1))


def evaluations_of(run_dir: str, step: int) -> dict[str, dict]:
    """What petseg-evaluate wrote about a checkpoint, by split."""
    found = {}
    for path in (epath.Path(run_dir) / _FOLDER).glob("*.json"):
        content = json.loads(path.read_text())
        if content.get("checkpoint_step") == step:
            found[content["split"]] = content
    return dict(sorted(found.items()))


def write_text(path: epath.Path, text: str) -> None:
    """Writes under a temporary name, then renames."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _read_by_step(run_dir: str, name: str) -> dict[int, object]:
    path = epath.Path(run_dir) / _FOLDER / name
    if not path.exists():
        return {}
    return {int(step): value for step, value in json.loads(path.read_text()).items()}


def _add(run_dir: str, name: str, step: int, value: object) -> None:
    kept = {s: known for s, known in _read_by_step(run_dir, name).items() if s < step}
    content = json.dumps({**kept, step: value}, indent=1) + "\n"
    write_text(evaluation_folder(run_dir) / name, content)
