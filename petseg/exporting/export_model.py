"""A trained model in a format that others can use, checked against the trained one."""

import hashlib
import json
import shutil
import uuid
from pathlib import Path

import numpy as np
import tensorflow as tf

from petseg.data import manifest
from petseg.errors import FaultFound, UserError
from petseg.exporting import formats
from petseg.exporting.formats import FORMATS
from petseg.exporting.serving import ServingModel
from petseg.inference import forward
from petseg.input_pipeline import pipeline
from petseg.run_dir import checkpoints, evaluations, trained_model
from petseg.run_dir.trained_model import TrainedModel
from petseg.version import __version__

_CARD = "model_card.json"
_CHECKED_IMAGES = 16
_REPRESENTATIVE_IMAGES = 100


def export_model(
    run_dir: str,
    output_dir: str,
    format_name: str,
    data_dir: str | None,
    checkpoint: str = "newest",
) -> dict:
    """Writes a model and its card, after comparing its masks with the trained model's.

    Args:
      run_dir: the run.
      output_dir: a new or empty folder.
      format_name: of formats.FORMATS.
      data_dir: the data set whose validation images are compared, or None for the one that
        the run was trained on.
      checkpoint: 'newest', 'best' or a step.

    Returns:
      The model card: what the model takes and gives, class_names, colours, label_map,
      image_size, keep_aspect; agreement (share of the checked images' pixels with the same
      class) and required_agreement; checkpoint_step, metrics of that checkpoint, data and
      the SHA-256 and bytes of each file.

    Raises:
      UserError: the run cannot be loaded, the folder is not empty, or a package is missing.
      FaultFound: the exported model's masks differ from the trained model's.
    """
    output, form = Path(output_dir), FORMATS[format_name]
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output_dir: {output} is not an empty folder")
    form.check_installed()
    trained = trained_model.load_trained_model(run_dir, checkpoint)
    data_dir = data_dir or trained.config.data.dir
    checked = _images(trained, data_dir, "validation", _CHECKED_IMAGES)
    examples = _images(trained, data_dir, "train", _REPRESENTATIVE_IMAGES)
    config = trained.config.data
    serving = ServingModel(trained.model, trained.label_map, config.image_size, config.keep_aspect)
    temporary = output.with_name(f"{output.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir(parents=True)
    try:
        path = formats.write(format_name, serving, temporary, examples)
        given = formats.load(format_name, path)(checked)
        agreement = float(np.mean(given == forward.predict(trained.model, checked)))
        if agreement < form.agreement:
            raise FaultFound(
                f"the {format_name} model agrees with the trained one on {agreement:.2%} of the "
                f"pixels of {len(checked)} validation images, less than {form.agreement:.2%}; "
                "it was not kept"
            )
        card = {
            "petseg": __version__,
            "tensorflow": tf.__version__,
            "format": format_name,
            "takes": form.takes,
            "gives": form.gives,
            **_about_model(trained),
            "checked_images": len(checked),
            "agreement": agreement,
            "required_agreement": form.agreement,
            **_about_run(trained, run_dir),
            "files": _hash_files(temporary),
        }
        (temporary / _CARD).write_text(json.dumps(card, indent=1) + "\n")
        if output.exists():
            output.rmdir()
        temporary.replace(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return card


def _images(trained: TrainedModel, data_dir: str, split_name: str, count: int) -> np.ndarray:
    """The first images of a split, at the model's size."""
    split = manifest.read_manifest(data_dir).split(split_name, data_dir)
    return pipeline.read_examples(
        manifest.shard_paths(data_dir, split),
        range(min(count, split.records)),
        class_ids=trained.label_map.class_ids(),
        image_size=trained.config.data.image_size,
        keep_aspect=trained.config.data.keep_aspect,
    )["image"]


def _about_model(trained: TrainedModel) -> dict:
    label_map = trained.label_map
    return {
        "class_names": list(label_map.names),
        "colours": trained.palette[: label_map.num_classes].tolist(),
        "label_map": label_map.spec(),
        "image_size": trained.config.data.image_size,
        "keep_aspect": trained.config.data.keep_aspect,
    }


def _about_run(trained: TrainedModel, run_dir: str) -> dict:
    """Where the weights come from, and how good they are."""
    page = checkpoints.read_metadata(run_dir, trained.step)
    data = manifest.read_manifest(run_dir)
    evaluations = evaluations.evaluations_of(run_dir, trained.step)
    kept = ("images", "mean_iou", "iou", "image_mean_iou", "mean_boundary_iou", "views")
    return {
        "checkpoint_step": trained.step,
        "checkpoint_sha256": page.sha256,
        "metrics": page.metrics,
        "evaluations": {
            split: {key: found[key] for key in kept if key in found}
            for split, found in evaluations.items()
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
