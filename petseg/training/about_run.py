"""What a run is, in words and tables, for those who watch it."""

import dataclasses
import os

from petseg import config as config_lib
from petseg.config import Config
from petseg.data import manifest as manifest_lib
from petseg.data.manifest import Manifest
from petseg.training.summaries import as_is

# Settings that every run is compared by; others are where they differ from their defaults.
_COMPARED = {
    *("data.label_map", "data.image_size", "data.batch_size", "model.head"),
    *("train.trained", "train.epochs", "train.learning_rate", "train.loss", "train.seed"),
    "optimizer.name",
}
# These move no weight.
_NOT_COMPARED = (
    *("data.dir", "data.verify_hashes", "data.cache", "data.service_address"),
    *("data.input_threads", "data.ram_budget_mib", "data.share_files", "train.log_every_steps"),
    *("train.evaluate_every_epochs", "train.best_metric"),
    *("train.save_every_minutes", "train.keep_checkpoints", "train.panel_images"),
    *("train.doctor_seconds", "train.histograms", "train.profile_steps", "devices.cluster"),
)
_PATHS = (
    "data.feature_cache_dir",
    "model.backbone_weights",
    "model.start_from",
)  # their last part tells enough
_SHOWN_FINDINGS = 50
_SHOWN_CHARACTERS = 20_000


def hparams(config: Config) -> dict[str, bool | float | str]:
    """The settings that move weights, by name: 'train.learning_rate'."""
    found = {}
    for room in dataclasses.fields(config):
        settings = getattr(config, room.name)
        for field in dataclasses.fields(settings):
            name, value = f"{room.name}.{field.name}", getattr(settings, field.name)
            if name in _NOT_COMPARED:
                continue
            is_plain = isinstance(value, bool | int | float | str)
            found[name] = value if is_plain else _short(value)
            if name in _PATHS:
                found[name] = os.path.basename(value)
    return found


def compared(config: Config) -> list[str]:
    """The names of the hparams to look at: those of every run, and what differs from defaults."""
    usual = hparams(Config())
    return [k for k, v in hparams(config).items() if k in _COMPARED or v != usual[k]]


def texts(config: Config, manifest: Manifest, layers: str) -> dict[str, str]:
    """Markdown by TensorBoard's tag.

    Args:
      config: the settings.
      manifest: of the data set.
      layers: tables of the model's layers, from workdir.describe_model.
    """
    content = manifest_lib.to_json(manifest)
    left_out = len(content) - _SHOWN_CHARACTERS
    if left_out > 0:
        content = f"{content[:_SHOWN_CHARACTERS]}\n... {left_out:,} more characters"
    return {
        "config": as_is(config_lib.to_json(config)),
        "data/report": data_report(manifest),
        "data/manifest": as_is(content),
        "model/layers": as_is(layers),
    }


def data_report(manifest: Manifest) -> str:
    """Tables, in Markdown, of the splits, their labels, and what was repaired or left out."""
    labels = sorted(manifest.raw_labels)
    names = [f"{manifest.raw_labels[label]} ({label})" for label in labels]
    rows = []
    for name, split in manifest.splits.items():
        counts = split.pixels_per_label
        total = sum(counts.values())
        shares = [f"{counts.get(label, 0) / total:.1%}" if total else "" for label in labels]
        size = f"{split.mean_width:.0f} x {split.mean_height:.0f}"
        rows.append([name, f"{split.records:,}", len(split.shards), f"{split.bytes:,}", size])
        rows[-1] += shares
    head = ["split", "images", "shards", "bytes", "mean size, px", *names]
    parts = [f"**{manifest.name}**, from {_short(manifest.source)}", _table(head, rows)]
    for title, findings in (("repaired", manifest.repaired), ("left out", manifest.rejected)):
        if findings:
            shown = [[f.name, f.split, f.reason] for f in findings[:_SHOWN_FINDINGS]]
            parts.append(f"{len(findings):,} files {title}, the first {len(shown)} of them:")
            parts.append(_table(["file", "split", "why"], shown))
    return "\n\n".join(parts)


def _table(head: list[str], rows: list[list]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _short(value: object) -> str:
    """Settings in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_short(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value))
    if dataclasses.is_dataclass(value):
        return " ".join(str(one) for one in dataclasses.astuple(value))
    return str(value)
