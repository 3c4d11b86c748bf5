"""The contract of a run folder: settings, data set and weights belong together.

RUN/config.json     the settings
RUN/manifest.json   the manifest of the data set it was trained on
RUN/checkpoints/    weights and optimizer state
RUN/evaluation/     figures, as JSON, and the panel
RUN/train, RUN/validation   TensorBoard's events
"""

import dataclasses
import json
import sys

from etils import epath

from petseg import config as config_lib
from petseg import manifest as manifest_lib
from petseg.config import Config
from petseg.errors import UserError
from petseg.label_map import LabelMap, parse_label_map
from petseg.manifest import Manifest
from petseg.modeling import layer_table, vgg16_skip
from petseg.modeling.vgg16_skip import SkipModel
from petseg.training import checkpoints

_CONFIG = "config.json"
_EVALUATION = "evaluation"
_BY_STEP = "validation_by_step.json"
# What may change when a run goes on: it moves nothing that the steps so far decided.
_MAY_CHANGE = (
    "config.data.dir",
    "config.data.verify_hashes",
    "config.data.cache",
    "config.data.service_address",
    "config.data.input_threads",
    "config.data.ram_budget_mib",
    "config.data.deterministic",
    "config.train.",
)
_FIXED_ALL_THE_SAME = ("config.train.seed",)


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """What a run folder holds for those who use its model.

    Attributes:
      config: the settings it was trained with.
      label_map: names and raw values of its classes.
      model: with its weights restored.
      step: of the checkpoint.
    """

    config: Config
    label_map: LabelMap
    model: SkipModel
    step: int


def open_for_training(workdir: str, config: Config, manifest: Manifest) -> list[str]:
    """Makes a run folder, or checks that this run may go on in it.

    Returns:
      One line for each setting that changed since the run began.

    Raises:
      UserError: the folder's checkpoints come from another model, data set, batch
        size or seed.
    """
    root = epath.Path(workdir)
    changed = []
    if checkpoints.saved_steps(workdir):
        for name, (old, new) in config_lib.differences(read_config(workdir), config).items():
            if name in _FIXED_ALL_THE_SAME or not name.startswith(_MAY_CHANGE):
                raise UserError(
                    f"--workdir={workdir} was trained with {name}={old!r}, now it is {new!r}; "
                    "name a new --workdir, or take the setting back"
                )
            changed.append(f"{name}: {old!r} before, {new!r} from now on")
        if manifest_lib.read_manifest(workdir).digest() != manifest.digest():
            raise UserError(
                f"--workdir={workdir} was trained on another data set than {config.data.dir}; "
                "name a new --workdir, or take the data set back"
            )
    root.mkdir(parents=True, exist_ok=True)
    manifest_lib.write_manifest(workdir, manifest)
    write_text(root / _CONFIG, config_lib.to_json(config))
    return changed


def read_config(workdir: str) -> Config:
    """Reads RUN/config.json; raises UserError if it is missing or damaged."""
    path = epath.Path(workdir) / _CONFIG
    if not path.exists():
        raise UserError(f"--workdir={workdir} holds no {_CONFIG}; it is no run of petseg.train")
    try:
        return config_lib.from_json(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def build_from_config(config: Config, num_classes: int, backbone_weights: str) -> SkipModel:
    """Builds the model that a config describes, its backbone's weights as named."""
    return vgg16_skip.build_model(
        head=config.model.head,
        num_classes=num_classes,
        image_size=config.data.image_size,
        backbone_weights=backbone_weights,
        score_channels=config.model.score_channels,
        backbone_width=config.model.backbone_width,
        backbone_convs=config.model.backbone_convs,
        seed=config.train.seed,
    )


def describe_model(config: Config) -> str:
    """Tables of VGG16's layers and of the model that a config describes."""
    num_classes = parse_label_map(config.data.label_map).num_classes
    vgg16 = vgg16_skip.build_vgg16(
        config.data.image_size, "none", config.model.backbone_width, config.model.backbone_convs
    )
    model = build_from_config(config, num_classes, backbone_weights="none")
    return layer_table.describe_model(model, vgg16, config.model.freeze_backbone)


def load_trained(workdir: str) -> TrainedModel:
    """Rebuilds a run's model and restores its newest readable weights.

    A newer checkpoint that cannot be read is named on standard error.

    Raises:
      UserError: it is no run folder, or no checkpoint of it can be read.
    """
    config = read_config(workdir)
    label_map = parse_label_map(config.data.label_map)
    model = build_from_config(config, label_map.num_classes, backbone_weights="none")
    step, skipped = checkpoints.restore_newest(
        checkpoints.make_checkpoint(model.variables), workdir
    )
    for line in skipped:
        print(line, file=sys.stderr)
    return TrainedModel(config, label_map, model, step)


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


def add_evaluation(workdir: str, step: int, figures: dict) -> None:
    """Records the figures of one step; those of later steps, from a lost run, go."""
    kept = {s: f for s, f in read_evaluations(workdir).items() if s < step}
    content = json.dumps({**kept, step: figures}, indent=1) + "\n"
    write_text(evaluation_folder(workdir) / _BY_STEP, content)


def write_text(path: epath.Path, text: str) -> None:
    """Writes under a temporary name, then renames."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)
