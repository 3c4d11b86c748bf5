"""What a run is, in words and tables, for people."""

import dataclasses
import os

from petseg import config_json, config_rules
from petseg.config import Config
from petseg.data import findings
from petseg.data import manifest as manifest_lib
from petseg.data.manifest import Manifest
from petseg.image_size import readable
from petseg.setting import Hparam, Section, rules_of
from petseg.training.tensorboard import as_markdown

_SHOWN_FINDINGS = 50
_SHOWN_CHARACTERS = 20_000
_FIRST = (
    *("model.decoder", "train.learning_rate", "train.epochs", "train.stages"),
    *("model.encoder", "train.loss"),
)
_OF_ONE_STAGE = ("train.trainable", "train.epochs", "train.learning_rate")


def hparams(config: Config) -> dict[str, bool | float | str]:
    """The settings that move weights, by name: 'train.learning_rate'."""
    found = {}
    for section_field in dataclasses.fields(config):
        section = getattr(config, section_field.name)
        if not isinstance(section, Section):
            continue
        for field in dataclasses.fields(section):
            rules, value = rules_of(field), getattr(section, field.name)
            name = f"{section_field.name}.{field.name}"
            is_unused = bool(config.train.stages) and name in _OF_ONE_STAGE
            if rules.hparam == Hparam.NEVER or is_unused:
                continue
            if rules.is_path:  # its last part is enough
                value = os.path.basename(value)
            elif rules.is_size:
                value = readable(value)
            is_plain = isinstance(value, bool | int | float | str)
            found[name] = value if is_plain else _one_line(value)
    return found


def hparam_columns(config: Config) -> list[str]:
    """The names of the hparams to show: those of every run, and those that were changed.

    The most important ones come first: TensorBoard ticks five.
    """
    usual = hparams(Config())
    shown = [
        name
        for name, value in hparams(config).items()
        if config_rules.find_rules(f"config.{name}").hparam == Hparam.COLUMN
        or value != usual.get(name)
    ]
    return [*(name for name in _FIRST if name in shown), *(n for n in shown if n not in _FIRST)]


def texts(config: Config, manifest: Manifest, layers: str, start_from: str = "") -> dict[str, str]:
    """Markdown by TensorBoard's tag; it sorts them by name.

    Args:
      config: The settings.
      manifest: Of the data set.
      layers: Tables of the model's layers, from models.summary.
      start_from: What was taken from another run, and what was not; '' without one.
    """
    content = manifest_lib.to_json(manifest)
    left_out = len(content) - _SHOWN_CHARACTERS
    if left_out > 0:
        content = f"{content[:_SHOWN_CHARACTERS]}\n... {left_out:,} more characters"
    return {
        "1 data": data_report(manifest),
        "2 settings": as_markdown(config_json.to_json(config)),
        "3 layers": as_markdown(layers),
        "4 manifest": as_markdown(content),
        **({"5 start_from": as_markdown(start_from)} if start_from else {}),
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
    header = ["split", "images", "shards", "bytes", "mean size, px", *names]
    parts = [f"**{manifest.name}**, from {_one_line(manifest.source)}", _table(header, rows)]
    counts = findings.count(manifest)
    for what, title, named in (
        ("repaired", "repaired", manifest.repaired),
        ("rejected", "left out", manifest.rejected),
    ):
        if named:
            shown = [[f.name, f.split, f.reason] for f in named[:_SHOWN_FINDINGS]]
            parts.append(f"{counts[what]:,} files {title}, the first {len(shown)} of them:")
            parts.append(_table(["file", "split", "why"], shown))
        elif counts[what]:
            parts.append(f"{counts[what]:,} files {title}: see {findings.FILE_NAME}")
    return "\n\n".join(parts)


def _table(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _one_line(value: object) -> str:
    """Settings in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_one_line(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_one_line, value))
    if dataclasses.is_dataclass(value):
        return " ".join(str(one) for one in dataclasses.astuple(value))
    return str(value)
