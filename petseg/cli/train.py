"""Trains a segmentation model, or goes on with a run.

  python -m petseg.train --config=configs/oxford_pets.py --workdir=RUN --config.data.dir=OUT
  python -m petseg.train --config=configs/oxford_pets.py --config.data.dir=OUT --check_replicas

The same command resumes a run that was stopped. Several hosts: the same command on each,
with TF_CONFIG set. Statuses: 0 done; 1 a damaged shard, a loss that is not finite, a
checkpoint that cannot be written, another host that has gone; 2 a wrong command, config,
data set or workdir; 143 or 130 after SIGTERM or SIGINT, with everything saved.
"""

from collections.abc import Sequence

from petseg.cli import command  # isort: skip  (quiets TensorFlow before it loads)
from absl import flags
from ml_collections import config_flags

from petseg import config as config_lib
from petseg.config import Config
from petseg.data.label_map import parse_label_map
from petseg.errors import UserError
from petseg.run_dir import run_folder
from petseg.training import loop, replica_check

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of configs/; --config.ROOM.FIELD=VALUE changes one setting."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints and TensorBoard's events.")
_PRINT_MODEL = flags.DEFINE_bool(
    "print_model", False, "Print VGG16's and the model's layers and stop; needs no data."
)
_CHECK_REPLICAS = flags.DEFINE_bool(
    "check_replicas",
    False,
    "Train 20 steps with one device and with several, compare the weights, and stop.",
)
flags.mark_flag_as_required("config")
# Of some fifty, documented in petseg/config.py.
_SETTINGS = {
    "config.data.dir": "The data set: what tools/convert.py wrote.",
    "config.data.batch_size": "Images a step, over all replicas together. (default: 16)",
    "config.model.backbone_weights": "VGG16's: imagenet, none or a file. (default: imagenet)",
    "config.ROOM.FIELD": "Any other setting of petseg/config.py.",
}


def main(arguments: Sequence[str]) -> None:
    """Trains with --config in --workdir."""
    if arguments:
        raise UserError(f"unexpected argument '{arguments[0]}'; every option is a --flag")
    config = _CONFIG.value
    if not isinstance(config, Config):
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        raise UserError(f"--config={path} is no file whose get_config() gives a petseg Config")
    if _PRINT_MODEL.value:
        config_lib.validate(config)
        num_classes = parse_label_map(config.data.label_map).num_classes
        model = run_folder.build_from_config(config, num_classes, backbone_weights="none")
        print(run_folder.describe_model(config, model))
        return
    if _CHECK_REPLICAS.value:
        for line in replica_check.check_replicas(config):
            print(line, flush=True)
        return
    if not _WORKDIR.value:
        raise UserError("--workdir must name the folder for checkpoints and events")
    loop.train_and_evaluate(config, _WORKDIR.value)


def run() -> None:
    """The console entry point."""
    command.run(main, ("config", "workdir", *list(_SETTINGS)[:3]), _SETTINGS)


if __name__ == "__main__":
    run()
