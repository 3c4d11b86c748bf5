"""Draws a data set on one sheet: a sample of every split, and the classes' shares."""

import collections
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from petseg.data import manifest, record
from petseg.data.label_map import IGNORE, IGNORED, MAX_CLASSES
from petseg.data.manifest import Manifest, Split
from petseg.errors import shown
from petseg.visualization import fonts, pictures

_CELL_PX, _GAP_PX, _TEXT_PX = 150, 4, 15
_EXAMPLES_PER_ROW = 3  # of three cells each
_EXAMPLES_PER_SPLIT = 6
_BAR_PX, _NAME_PX = 420, 150
_MOST_BARS = 40  # classes


def draw_contact_sheet(data_dir: str, finished: Manifest) -> Image.Image:
    """Draws image | mask | overlay of examples of every split, and pixels per class.

    Args:
      data_dir: A data set whose shards are complete.
      finished: Its manifest.
    """
    labels = sorted(finished.raw_labels)
    parts = [_legend(finished, labels)]
    for name, split in finished.splits.items():
        parts += [_examples(data_dir, name, split, labels, finished)]
    parts.append(_chart(finished, labels))
    width = max(part.width for part in parts)
    sheet = Image.new("RGB", (width, sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def _colours(finished: Manifest, labels: Sequence[int]) -> dict[int, tuple[int, int, int]]:
    given = {i: finished.colours[v] for i, v in enumerate(labels) if v in finished.colours}
    table = pictures.colours(min(len(labels), MAX_CLASSES), given)
    return {
        label: tuple(table[IGNORE if finished.raw_labels[label] == IGNORED else index].tolist())
        for index, label in enumerate(labels)
    }


def _legend(finished: Manifest, labels: Sequence[int]) -> Image.Image:
    """Draws class names and their values with their colours."""
    width = _EXAMPLES_PER_ROW * (3 * (_CELL_PX + _GAP_PX) + 2 * _GAP_PX)
    colours = _colours(finished, labels).items()
    entries = [(f"{finished.raw_labels[label]} ({label})", colour) for label, colour in colours]
    return pictures.legend(entries, width)


def _examples(
    data_dir: str, name: str, split: Split, labels: Sequence[int], finished: Manifest
) -> Image.Image:
    """Draws one split's sample, evenly spaced over its records."""
    wanted = np.unique(np.linspace(0, split.records - 1, _EXAMPLES_PER_SPLIT).astype(int))
    group_px = 3 * (_CELL_PX + _GAP_PX) + 2 * _GAP_PX
    row_px = _CELL_PX + _TEXT_PX + _GAP_PX
    rows = -(-len(wanted) // _EXAMPLES_PER_ROW)
    canvas = Image.new("RGB", (_EXAMPLES_PER_ROW * group_px, _TEXT_PX + rows * row_px), "white")
    draw = ImageDraw.Draw(canvas)
    title = (
        f"{name}: {split.records:,} images, mean {split.mean_width:.0f}x{split.mean_height:.0f} px"
    )
    draw.text((_GAP_PX, 1), f"{title}; image | mask | overlay", fill="black")
    for position, (label, cells) in enumerate(_read(data_dir, split, wanted, labels, finished)):
        row, column = divmod(position, _EXAMPLES_PER_ROW)
        left, top = column * group_px + _GAP_PX, _TEXT_PX + row * row_px
        fonts.write(draw, (left, top), fonts.shortened(draw, label, group_px - 2 * _GAP_PX))
        for index, cell in enumerate(cells):
            x = left + index * (_CELL_PX + _GAP_PX)
            canvas.paste(cell, (x, top + _TEXT_PX))
    return canvas


def _read(
    data_dir: str, split: Split, wanted: np.ndarray, labels: Sequence[int], finished: Manifest
) -> list[tuple[str, list[Image.Image]]]:
    table = np.zeros((256, 3), np.uint8)
    for label, colour in _colours(finished, labels).items():
        table[label] = colour
    examples, last = [], int(wanted[-1])
    records = tf.data.TFRecordDataset(manifest.shard_paths(data_dir, split))
    for index, serialized in enumerate(records.take(last + 1).as_numpy_iterator()):
        if index not in wanted:
            continue
        fields = record.parse_record(serialized)
        image = record.decode_image(fields[record.IMAGE]).numpy()
        colour = table[record.decode_mask(fields[record.MASK]).numpy()[..., 0]]
        cells = [image, colour, pictures.blend(image, colour)]
        name = fields[record.SOURCE_ID].numpy().decode(errors="surrogateescape")
        examples.append((shown(name), [_cell(cell) for cell in cells]))
    return examples


def _cell(pixels: np.ndarray) -> Image.Image:
    picture = Image.fromarray(pixels)
    picture.thumbnail((_CELL_PX, _CELL_PX))
    cell = Image.new("RGB", (_CELL_PX, _CELL_PX), (225, 225, 225))
    cell.paste(picture, ((_CELL_PX - picture.width) // 2, (_CELL_PX - picture.height) // 2))
    return cell


def _chart(finished: Manifest, labels: Sequence[int]) -> Image.Image:
    """Draws bars of each class's share of the pixels, split by split."""
    counts = {name: split.pixels_per_label for name, split in finished.splits.items()}
    line_px = _TEXT_PX + 1
    shown_labels = _most_frequent(finished, labels)
    lines = len(shown_labels) * (len(counts) + 1) + (len(shown_labels) < len(labels))
    canvas = Image.new("RGB", (_NAME_PX + _BAR_PX + 180, _TEXT_PX * 2 + lines * line_px), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP_PX, _GAP_PX), "pixels per class, share of each split", fill="black")
    if not any(counts.values()):
        draw.text((_GAP_PX, _GAP_PX + line_px), "not counted (--validate=header)", fill="black")
        return canvas
    top = _TEXT_PX * 2
    colours = _colours(finished, labels)
    for label in shown_labels:
        colour, name = (
            colours[label],
            fonts.shortened(draw, finished.raw_labels[label], _NAME_PX - 90),
        )
        fonts.write(draw, (_GAP_PX, top), name)
        for split, pixels in counts.items():
            share = pixels.get(label, 0) / max(sum(pixels.values()), 1)
            draw.text((_NAME_PX - 76, top), split, fill="black")
            right = _NAME_PX + max(1, round(share * _BAR_PX))
            draw.rectangle((_NAME_PX, top + 1, right, top + 11), colour, outline="black")
            text = f"{share:.2%}  {pixels.get(label, 0):,} px"
            draw.text((right + 6, top), text, fill="black")
            top += line_px
        top += line_px
    if len(shown_labels) < len(labels):
        text = f"and {len(labels) - len(shown_labels):,} rarer classes"
        draw.text((_GAP_PX, top), text, fill="black")
    return canvas


def _most_frequent(finished: Manifest, labels: Sequence[int]) -> list[int]:
    """Returns the labels that the chart has room for, in their order."""
    pixels: collections.Counter = collections.Counter()
    for split in finished.splits.values():
        pixels.update(split.pixels_per_label)
    return sorted(sorted(labels, key=lambda label: (-pixels[label], label))[:_MOST_BARS])
