"""Exports a trained model, checked against the trained one, with a model card."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from petseg import paths
from petseg.data import manifest
from petseg.errors import FaultFound, UserError
from petseg.exporting import formats
from petseg.exporting.choices import DEFAULT_MAX_PIXELS
from petseg.exporting.formats import FORMATS
from petseg.exporting.serving import ServingModel
from petseg.image_size import as_json
from petseg.inference.eval_step import predict
from petseg.input_pipeline import stored_examples
from petseg.input_pipeline.pipeline import InputOptions
from petseg.run_dir import checkpoints, evaluations, trained_model
from petseg.run_dir.trained_model import TrainedModel
from petseg.version import __version__

_CARD = "model_card.json"
_CHECKED_IMAGES = 16
_REPRESENTATIVE_IMAGES = 100


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What is exported, and where to.

    Attributes:
      output_dir: a new or empty folder.
      format: one of formats.FORMATS.
      data_dir: the data set whose validation images are compared; None for the one that the run
        was trained on.
      checkpoint: 'newest', 'best' or a step.
      max_pixels: a SavedModel decodes no encoded picture whose header claims more pixels.
    """

    output_dir: str
    format: str = "saved_model"
    data_dir: str | None = None
    checkpoint: str = "newest"
    max_pixels: int = DEFAULT_MAX_PIXELS


def export_model(run_dir: str, options: ExportOptions) -> dict:
    """Writes a model and its card, after comparing its masks with the trained model's.

    Returns:
      The model card: takes and gives (input and output of the model), class_names, colours,
      label_map, image_size, keep_aspect, of a SavedModel max_pixels; agreement (share of pixels of
      the checked images with the same class) and required_agreement; checkpoint_step, metrics of
      that checkpoint, data, and SHA-256 and bytes of each file.

    Raises:
      UserError: the run cannot be loaded, an option is wrong, the folder is not empty, or a
        package is missing.
      FaultFound: the exported model's masks differ from the trained model's, or it cannot be
        written.
    """
    if options.format not in FORMATS:
        raise UserError(f"format '{options.format}' is not one of {', '.join(FORMATS)}")
    if options.max_pixels < 1:
        raise UserError(f"--max_pixels={options.max_pixels} must be at least 1")
    if options.max_pixels != DEFAULT_MAX_PIXELS and options.format != "saved_model":
        raise UserError(f"--max_pixels is of --format=saved_model, not {options.format}")
    paths.check_local(options.output_dir, "--output_dir")
    output, form = Path(options.output_dir).absolute(), FORMATS[options.format]
    if output.exists() and (not output.is_dir() or paths.things_in(output)):
        raise UserError(f"--output_dir: {output} is not an empty folder; name a new one")
    if options.format == "saved_model":
        _refuse_path_of_pattern(output)
    form.check_installed()
    trained = trained_model.load_trained_model(run_dir, options.checkpoint)
    data_dir = options.data_dir or trained.config.data.dir
    checked = _read_images(trained, data_dir, "validation", _CHECKED_IMAGES)
    examples = _read_images(trained, data_dir, "train", _REPRESENTATIVE_IMAGES)
    config = trained.config.data
    serving = ServingModel(
        trained.model,
        trained.label_map,
        config.image_size,
        config.keep_aspect,
        options.max_pixels,
    )
    # A folder that is there may be a disk of its own: what is renamed has to lie in it.
    beside = output if output.exists() else output.parent
    temporary = beside / f"{output.name}.{uuid.uuid4().hex[:8]}.tmp"
    temporary.mkdir(parents=True)
    try:
        with _writing(output):
            path = formats.write(options.format, serving, temporary, examples)
        exported = formats.load(options.format, path)(checked)
        agreement = float(np.mean(exported == predict(trained.model, checked)))
        if agreement < form.agreement:
            raise FaultFound(
                f"the {options.format} model agrees with the trained one on {agreement:.2%} of the "
                f"pixels of {len(checked)} validation images, less than {form.agreement:.2%}; "
                f"it was not kept{_what_else(options.format, trained)}"
            )
        card = {
            "petseg": __version__,
            "tensorflow": tf.__version__,
            "format": options.format,
            "takes": form.takes,
            "gives": form.gives,
            **_describe_model(trained),
            **({"max_pixels": options.max_pixels} if options.format == "saved_model" else {}),
            "checked_images": len(checked),
            "agreement": agreement,
            "required_agreement": form.agreement,
            **_describe_run(trained, run_dir),
            "files": _hash_files(temporary),
        }
        with _writing(output):
            (temporary / _CARD).write_text(json.dumps(card, indent=1) + "\n")
            _publish(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return card


def _what_else(format_name: str, trained: TrainedModel) -> str:
    """Why int8 may differ, and the format to take instead."""
    if format_name != "litert_int8":
        return ""
    reason = ""
    if any(level.startswith("C") for level in trained.model.levels):
        reason = (
            f"config.model.decoder={trained.config.model.decoder} puts features where the "
            "encoder's maxima were, and among nearly equal ones int8 finds others; "
        )
    return f"; {reason}take --format=litert"


def _publish(temporary: Path, output: Path) -> None:
    """Gives what is complete its name; the current folder, or a mounted one, stays that folder."""
    if not output.exists():
        temporary.replace(output)
        return
    for path in sorted(temporary.iterdir(), key=lambda path: path.name == _CARD):  # the card last
        path.replace(output / path.name)


@contextlib.contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Reports a full disk in one line, whichever library met it."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = " ".join((getattr(error, "message", None) or str(error)).split())[:300]
        raise FaultFound(
            f"--output_dir: {output} cannot be written: {reason}; nothing was kept"
        ) from error


def _refuse_path_of_pattern(output: Path) -> None:
    """TensorFlow reads the folder of a SavedModel as a pattern, and finds no variables in it."""
    path = str(output.absolute())
    if "[" in path or "\\" in path:
        raise UserError(
            f"--output_dir: TensorFlow cannot load a SavedModel from a path with [ or \\: {path}; "
            "name another folder"
        )


def _read_images(trained: TrainedModel, data_dir: str, split_name: str, count: int) -> np.ndarray:
    """The first images of a split: uint8 [images, height, width, 3]."""
    split = manifest.read_manifest(data_dir).split(split_name, data_dir)
    return stored_examples.read_examples(
        manifest.shard_paths(data_dir, split),
        range(min(count, split.records)),
        InputOptions(
            class_ids=trained.label_map.class_ids(),
            image_size=trained.config.data.image_size,
            batch_size=1,
            keep_aspect=trained.config.data.keep_aspect,
        ),
    )["image"]


def _describe_model(trained: TrainedModel) -> dict:
    label_map = trained.label_map
    return {
        "class_names": list(label_map.names),
        "colours": trained.palette[: label_map.num_classes].tolist(),
        "label_map": label_map.spec(),
        "image_size": as_json(trained.config.data.image_size),
        "keep_aspect": trained.config.data.keep_aspect,
        **_describe_presence(trained),
    }


def _describe_presence(trained: TrainedModel) -> dict:
    """Probabilities of presence below which the exported model predicts no pixel of a class."""
    thresholds = trained.model.thresholds
    if not thresholds:
        return {}
    return {"presence_thresholds": dict(zip(trained.label_map.names, thresholds, strict=True))}


def _describe_run(trained: TrainedModel, run_dir: str) -> dict:
    """The origin of the weights, and their figures."""
    metadata = checkpoints.read_metadata(run_dir, trained.step)
    data = manifest.read_manifest(run_dir)
    reports = evaluations.evaluations_of(run_dir, trained.step)
    kept = ("images", "mean_iou", "iou", "image_mean_iou", "mean_boundary_iou", "views")
    return {
        "checkpoint_step": trained.step,
        "checkpoint_sha256": metadata.sha256,
        "metrics": metadata.metrics,
        "evaluations": {
            split: {key: figures[key] for key in kept if key in figures}
            for split, figures in reports.items()
        },
        "data": {
            "name": data.name,
            "source": data.source,
            "manifest_sha256": data.digest(),
            "images": {name: split.records for name, split in data.splits.items()},
        },
    }


def _hash_files(folder: Path) -> dict[str, dict]:
    return {
        str(path.relative_to(folder)): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
