"""Trains a segmentation model, or resumes a run.

  petseg-train --config=oxford_pets --workdir=RUN --config.data.dir=OUT
  petseg-train --config=my_recipe.py --workdir=RUN --config.data.dir=OUT --config.train.epochs=8
  petseg-train --config=oxford_pets --config.data.dir=OUT --check_replicas
  petseg-train --config=oxford_pets --print_model --draw_model_to=FOLDER

The same command resumes a run that was stopped. Several hosts: the same command on each, with
TF_CONFIG set. Statuses: 0 done; 1 a damaged shard, a loss that is not finite, a checkpoint
that cannot be written, another host that is gone; 2 a wrong command, config, data set or
workdir; 143 or 130 after SIGTERM or SIGINT, with everything saved.
"""

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from petseg import recipes
from petseg.cli import command, flag_parsing, path_flags
from petseg.config import Config
from petseg.errors import UserError

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    f"{recipes.FLAG_HELP} --config.SECTION.FIELD=VALUE changes one setting.",
)
_WORKDIR = path_flags.define("workdir", None, "Folder for checkpoints and TensorBoard's events.")
_PRINT_MODEL = flags.DEFINE_bool(
    "print_model", False, "Print the model's layers and their cost and stop; needs no data set."
)
_DRAW_MODEL_TO = path_flags.define(
    "draw_model_to",
    None,
    "With --print_model: a folder for pictures of the encoder, and of the model; needs graphviz.",
)
_CHECK_REPLICAS = flags.DEFINE_bool(
    "check_replicas",
    False,
    "Train 20 steps with one device and with several, compare the weights, and stop.",
)
flags.mark_flag_as_required("config")
# Of some fifty, which --help_config lists.
_SETTINGS = {
    "config.data.dir": "The data set: what petseg-convert wrote.",
    "config.data.batch_size": "Images per step, over all replicas together. (default: 16)",
    "config.model.encoder_weights": "imagenet, none or a file. (default: imagenet)",
    "config.SECTION.FIELD": "Any other setting; --help_config lists them.",
}
_USUAL_CLASSES = 2
_GRACE_S = 25.0  # then a call that hangs is given up; Kubernetes kills after 30


def check(arguments: Sequence[str]) -> None:
    """Refuses a wrong command before TensorFlow is loaded."""
    flag_parsing.refuse_arguments(arguments)
    if _DRAW_MODEL_TO.value and not _PRINT_MODEL.value:
        raise UserError("--draw_model_to works with --print_model; give that, too")
    if _PRINT_MODEL.value:
        return
    from petseg import config_rules

    path_flags.check_is_data_set("config.data.dir", config_rules.data_dir(_CONFIG.value))
    if not _WORKDIR.value and not _CHECK_REPLICAS.value:
        raise UserError("--workdir must name the folder for checkpoints and events")


def main(_: Sequence[str]) -> None:
    """Trains with --config in --workdir."""
    config = _CONFIG.value
    if _PRINT_MODEL.value:
        _print_model(config)
        return
    from petseg.training import replica_check, trainer

    if _CHECK_REPLICAS.value:
        for line in replica_check.check_replicas(config):
            print(line, flush=True)
        return
    trainer.train_and_evaluate(config, _WORKDIR.value, _GRACE_S)


def _print_model(config: Config) -> None:
    from petseg import config_rules
    from petseg.data import label_map, manifest
    from petseg.models import summary
    from petseg.models.segmentation_model import build_model
    from petseg.run_dir.trained_model import model_options
    from petseg.visualization import model_diagrams

    config_rules.validate(config)
    if config.data.dir:
        found = manifest.read_manifest(config.data.dir)
        classes = label_map.choose_label_map(config.data.label_map, found).num_classes
    elif config.data.label_map:
        classes = label_map.parse_label_map(config.data.label_map).num_classes
    else:
        classes = _USUAL_CLASSES
    model = build_model(
        model_options(config),
        num_classes=classes,
        image_size=config.data.image_size,
        weights="none",
        precision=config.devices.precision,
    )
    decoder, trainables = config.model.decoder, [one.trainable for one in config.stages()]
    print(summary.describe_model(model, decoder, trainables, config.data.batch_size))
    if _DRAW_MODEL_TO.value:
        for path in model_diagrams.draw_model(model, decoder, trainables, _DRAW_MODEL_TO.value):
            print(path)


def run() -> None:
    """The console entry point."""
    command.run(main, ("config", "workdir", *list(_SETTINGS)[:3]), _SETTINGS, check)


if __name__ == "__main__":
    run()
