"""The frozen model that a run learns from, beside the masks (train.teacher)."""

import dataclasses
import hashlib

from petseg.config import Config
from petseg.data.label_map import LabelMap
from petseg.devices import Devices
from petseg.errors import UserError
from petseg.image_size import sides_of
from petseg.models.segmentation_model import SegmentationModel, build_model
from petseg.run_dir.checkpoints import CheckpointMetadata
from petseg.run_dir.trained_model import TrainedModel, load_trained_model, model_options

_SETTING = "config.train.teacher"
_KEY = "teacher_sha256"  # in the metadata of the run's checkpoints


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A trained model on the run's devices; nothing changes it.

    Attributes:
      model: Whose logits are followed.
      sha256: Of its weights.
    """

    model: SegmentationModel
    sha256: str

    def metadata(self) -> dict[str, object]:
        """What the metadata of the run's checkpoints hold of it."""
        return {_KEY: self.sha256}

    def check_same(self, saved: CheckpointMetadata, path: str) -> None:
        """Raises UserError if a checkpoint was trained with another teacher."""
        if saved.run.get(_KEY, self.sha256) != self.sha256:
            raise UserError(
                f"{_SETTING}={path} has other weights than the teacher of this run's first "
                f"{saved.step} steps; restore that teacher's run folder, or train in a new "
                "--workdir"
            )


def load_teacher(config: Config, label_map: LabelMap, devices: Devices) -> Teacher:
    """Loads the newest weights of the run config.train.teacher, in the run's precision.

    Args:
      config: The student's settings.
      label_map: The student's classes.
      devices: What the student runs on.

    Raises:
      UserError: It is no run, its weights cannot be read, or it has other classes, another
        image size or another way of fitting images to it; on several hosts, these have different
        teachers.
    """
    path = config.train.teacher
    try:
        trained = load_trained_model(path)
    except UserError as error:
        raise UserError(f"{_SETTING}: {str(error).removeprefix('--workdir=')}") from error
    _check_fits(trained, config, label_map)
    sha256 = _hash(trained.model)
    _agree(sha256, path, devices)
    with devices.strategy.scope():
        model = build_model(
            model_options(trained.config),
            num_classes=label_map.num_classes,
            image_size=config.data.image_size,
            weights="none",
            precision=config.devices.precision,
        )
    for copy, variable in zip(model.variables, trained.model.variables, strict=True):
        copy.value.assign(variable.numpy())
    return Teacher(model, sha256)


def _check_fits(trained: TrainedModel, config: Config, label_map: LabelMap) -> None:
    where = f"{_SETTING}={config.train.teacher}"
    theirs, ours = (", ".join(one.names) for one in (trained.label_map, label_map))
    if theirs != ours:
        raise UserError(
            f"{where} has the classes {theirs}, this run has {ours}; a teacher must have the same "
            "classes in the same order"
        )
    theirs, ours = trained.config.data, config.data
    if sides_of(theirs.image_size) != sides_of(ours.image_size):
        raise UserError(
            f"{where} was trained with config.data.image_size={theirs.image_size}, this run has "
            f"{ours.image_size}; a teacher must see images of the same size"
        )
    # It is shown the student's images: squashed ones, or ones with padding, it has never seen.
    if theirs.keep_aspect != ours.keep_aspect:
        raise UserError(
            f"{where} was trained with config.data.keep_aspect={theirs.keep_aspect}, this run has "
            f"{ours.keep_aspect}; a teacher must see images that are fitted in the same way"
        )


def _hash(model: SegmentationModel) -> str:
    """SHA-256 of all weights, by name."""
    digest = hashlib.sha256()
    for variable in model.variables:
        digest.update(variable.path.encode())
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()


def _agree(sha256: str, path: str, devices: Devices) -> None:
    """Raises UserError on every host if their copies of the teacher differ."""
    mine = float(int(sha256[:8], 16))
    (total,) = devices.agree([mine])
    (differs,) = devices.agree([float(total != mine * devices.host_count)])
    if differs:
        raise UserError(f"{_SETTING}={path}: its weights are not the same on all hosts")
