"""The contract of a run folder: settings, data set and weights belong together.

RUN/config.json     the settings
RUN/manifest.json   the manifest of the data set it was trained on
RUN/checkpoints/    weights and optimizer state, one folder a checkpoint
RUN/evaluation/     figures, as JSON, and the panel
RUN/train, RUN/validation   TensorBoard's events
"""

import dataclasses
import json
import sys

import numpy as np
import tensorflow as tf
from etils import epath

from petseg import config as config_lib
from petseg.config import Config
from petseg.data import manifest as manifest_lib
from petseg.data.label_map import LabelMap, parse_label_map
from petseg.data.manifest import Manifest
from petseg.errors import UserError
from petseg.feature_cache.store import SETTING
from petseg.models import summary as layer_table
from petseg.models import vgg16_skip
from petseg.models.vgg16_skip import SkipModel
from petseg.run_dir import checkpoints
from petseg.training import learner, state
from petseg.visualization import pictures

_CONFIG = "config.json"
_EVALUATION = "evaluation"
_BY_STEP = "validation_by_step.json"
_SECONDS = "seconds_by_step.json"
# What may change when a run goes on: it moves nothing that the steps so far decided.
_MAY_CHANGE = (
    "config.data.dir",
    "config.data.verify_hashes",
    "config.data.cache",
    "config.data.service_address",
    "config.data.input_threads",
    "config.data.ram_budget_mib",
    "config.data.deterministic",
    "config.data.share_files",
    "config.train.",
    "config.optimizer.",
    "config.devices.",
)
_FIXED_ALL_THE_SAME = (
    "config.train.seed",
    "config.train.trained",
    "config.optimizer.name",
    "config.optimizer.average_decay",
)


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """What a run folder holds for those who use its model.

    Attributes:
      config: the settings it was trained with.
      label_map: names and raw values of its classes.
      raw_labels: raw mask value -> what it meant in the data set it was trained on.
      table: colours of its classes, from pictures.palette.
      model: with its weights restored.
      step: of the checkpoint.
    """

    config: Config
    label_map: LabelMap
    raw_labels: dict[int, str]
    table: np.ndarray
    model: SkipModel
    step: int

    def at_size(self, image_size: int) -> SkipModel:
        """The same model for images of another size, in pixels, a multiple of 32."""
        if image_size == self.config.data.image_size:
            return self.model
        data = dataclasses.replace(self.config.data, image_size=image_size)
        config = dataclasses.replace(self.config, data=data)
        model = build_from_config(config, self.label_map.num_classes, backbone_weights="none")
        for own, other in zip(model.variables, self.model.variables, strict=True):
            own.assign(other)
        return model


def check_fits(workdir: str, config: Config, manifest: Manifest) -> list[str]:
    """Checks that this run may begin, or go on, in a folder; writes nothing.

    Returns:
      One line for each setting that changed since the run began.

    Raises:
      UserError: the folder's checkpoints come from another model, data set, batch
        size or seed.
    """
    changed = []
    if checkpoints.saved_steps(workdir):
        for name, (old, new) in config_lib.differences(read_config(workdir), config).items():
            if not _may_change(name, old, new):
                raise UserError(
                    f"--workdir={workdir} was trained with {name}={old!r}, now it is {new!r}; "
                    "name a new --workdir, or take the setting back"
                )
            changed.append(f"{name}: {old!r} before, {new!r} from now on")
        if manifest_lib.read_manifest(workdir).digest() != manifest.digest():
            raise UserError(
                f"--workdir={workdir} was trained on another data set than {config.data.dir}; "
                "take the data set back, or go on from its weights with "
                f"--config.model.start_from={workdir} and a new --workdir"
            )
    return changed


def _may_change(name: str, old: object, new: object) -> bool:
    if name == SETTING:  # the folder may move; with and without one, batches are others
        return bool(old) == bool(new)
    return name not in _FIXED_ALL_THE_SAME and name.startswith(_MAY_CHANGE)


def write_settings(workdir: str, config: Config, manifest: Manifest) -> None:
    """Makes a run folder, with the settings and the manifest of its data set."""
    root = epath.Path(workdir)
    root.mkdir(parents=True, exist_ok=True)
    manifest_lib.write_manifest(workdir, manifest)
    write_text(root / _CONFIG, config_lib.to_json(config))


def read_config(workdir: str) -> Config:
    """Reads RUN/config.json; raises UserError if it is missing or damaged."""
    path = epath.Path(workdir) / _CONFIG
    if not path.exists():
        raise UserError(f"--workdir={workdir} holds no {_CONFIG}; it is no run of petseg.train")
    try:
        return config_lib.from_json(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def build_from_config(
    config: Config, num_classes: int, backbone_weights: str, precision: str = "float32"
) -> SkipModel:
    """Builds the model that a config describes, its backbone's weights as named."""
    return vgg16_skip.build_model(
        head=config.model.head,
        num_classes=num_classes,
        image_size=config.data.image_size,
        backbone_weights=backbone_weights,
        score_channels=config.model.score_channels,
        head_width=config.model.head_width,
        backbone_width=config.model.backbone_width,
        backbone_convs=config.model.backbone_convs,
        precision=precision,
        seed=config.train.seed,
    )


def describe_model(config: Config, model: SkipModel) -> str:
    """Tables of VGG16's layers and of a model that the config describes."""
    vgg16 = vgg16_skip.build_vgg16(
        config.data.image_size, "none", config.model.backbone_width, config.model.backbone_convs
    )
    weights = [state.trained_weights(model, stage.trained) for stage in config.stages()]
    trained = {weight.path for stage in weights for weight in stage}
    return layer_table.describe_model(model, vgg16, trained)


def load_trained(workdir: str, checkpoint: str = "newest") -> TrainedModel:
    """Rebuilds a run's model and restores its weights, averaged ones if the run keeps them.

    A newer checkpoint that cannot be read is named on standard error.

    Args:
      workdir: the run.
      checkpoint: 'newest' (that can be read), 'best' (by the run's best_metric) or a step.

    Raises:
      UserError: it is no run folder, or there is no such checkpoint that can be read.
    """
    config = read_config(workdir)
    label_map = parse_label_map(config.data.label_map)
    model = build_from_config(config, label_map.num_classes, backbone_weights="none")
    step = _choose_step(workdir, checkpoint, config.train.best_metric)
    checkpoints.restore(served_variables(config, model), workdir, step)
    data = manifest_lib.read_manifest(workdir)
    table = pictures.palette(label_map, data.colours)
    return TrainedModel(config, label_map, data.raw_labels, table, model, step)


def served_variables(config: Config, model: SkipModel) -> dict[str, tf.Variable]:
    """The variables of a model by the names, in the run's checkpoints, of what it serves."""
    averaged = set()
    if config.optimizer.average_decay:
        for stage in config.stages():
            averaged |= {w.path for w in state.trained_weights(model, stage.trained)}
    return {
        learner.average_name(v.path) if v.path in averaged else v.path: v.value
        for v in model.variables
    }


def _choose_step(workdir: str, checkpoint: str, best_metric: str) -> int:
    if checkpoint == "newest":
        step, skipped = checkpoints.newest_readable(workdir)
        for line in skipped:
            print(line, file=sys.stderr)
        return step
    steps = checkpoints.saved_steps(workdir)
    if checkpoint == "best":
        step = checkpoints.best_step(workdir, best_metric)
        if step is None:
            raise UserError(f"--checkpoint=best: no checkpoint of {workdir} has a {best_metric}")
        return step
    if not checkpoint.isdigit() or int(checkpoint) not in steps:
        raise UserError(
            f"--checkpoint={checkpoint} must be newest, best or one of the steps "
            f"{', '.join(map(str, steps)) or '(there is none)'} of {workdir}"
        )
    return int(checkpoint)


def evaluation_folder(workdir: str) -> epath.Path:
    """RUN/evaluation, made if it is not there."""
    folder = epath.Path(workdir) / _EVALUATION
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_evaluations(workdir: str) -> dict[int, dict]:
    """The figures of every evaluation during training, by step."""
    path = epath.Path(workdir) / _EVALUATION / _BY_STEP
    if not path.exists():
        return {}
    return {int(step): figures for step, figures in json.loads(path.read_text()).items()}


def evaluations_of(workdir: str, step: int) -> dict[str, dict]:
    """What petseg.evaluate wrote about a checkpoint, by split."""
    found = {}
    for path in (epath.Path(workdir) / _EVALUATION).glob("*.json"):
        content = json.loads(path.read_text())
        if content.get("checkpoint_step") == step:
            found[content["split"]] = content
    return dict(sorted(found.items()))


def add_evaluation(workdir: str, step: int, figures: dict) -> None:
    """Records the figures of one step; those of later steps, from a lost run, go."""
    kept = {s: f for s, f in read_evaluations(workdir).items() if s < step}
    content = json.dumps({**kept, step: figures}, indent=1) + "\n"
    write_text(evaluation_folder(workdir) / _BY_STEP, content)


def read_seconds(workdir: str) -> dict[int, float]:
    """How long the run took up to each evaluation, loading left out, by step."""
    path = epath.Path(workdir) / _EVALUATION / _SECONDS
    if not path.exists():
        return {}
    return {int(step): seconds for step, seconds in json.loads(path.read_text()).items()}


def add_seconds(workdir: str, step: int, seconds: float) -> None:
    """Records how long the run took up to a step; later steps, from a lost run, go."""
    kept = {s: known for s, known in read_seconds(workdir).items() if s < step}
    content = json.dumps({**kept, step: round(seconds, 1)}, indent=1) + "\n"
    write_text(evaluation_folder(workdir) / _SECONDS, content)


def write_text(path: epath.Path, text: str) -> None:
    """Writes under a temporary name, then renames."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)
