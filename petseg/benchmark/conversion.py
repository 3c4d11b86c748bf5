"""Measures the conversion beside its limits and other implementations."""

import contextlib
import functools
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds

from petseg.benchmark import measuring
from petseg.benchmark.measuring import Candidate
from petseg.conversion.convert import ConvertOptions, convert
from petseg.cores import usable_cores
from petseg.data import record
from petseg.errors import UserError

_STAGE = "convert"


def benchmark(
    raw_dir: Path,
    scratch: Path,
    *,
    pairs: int,
    rounds: int,
    workers: Sequence[int],
    only: Sequence[str],
) -> None:
    """Prints the speed of every candidate, and ratios.

    Args:
      raw_dir: pairs in the official pets layout.
      scratch: folder for temporary files.
      pairs: number of pairs to convert; those of raw_dir are repeated under other names.
      rounds: how often every candidate runs.
      workers: numbers of workers to measure petseg with.
      only: names of candidates; empty for all.
    """
    linked = scratch / "pairs"
    size_mb = _link_pairs(raw_dir, linked, pairs) / 1e6
    cores = usable_cores()
    runs = [
        ("decode_limit", decode_only, cores),
        ("naive_copy", copy_naively, 1),
        ("tfds_builder", build_with_tfds, 1),
        *(("petseg", convert_in_full, count) for count in workers),
        *(("petseg_copy", convert_by_headers, count) for count in workers),
        ("petseg_short_side_256", convert_smaller, cores),
    ]
    candidates = [
        Candidate(name, functools.partial(_timed, run, linked, scratch, count, pairs), count)
        for name, run, count in runs
        if not only or name in only
    ]
    results = measuring.run_rounds(candidates, rounds, "pairs/s")
    for (name, count), measured in results.items():
        speeds = [run.speed for run in measured]
        measuring.print_line(
            _STAGE,
            name,
            speeds,
            "pairs/s",
            workers=count,
            mb_per_s=round(size_mb / pairs * statistics.median(speeds), 1),
            peak_mib=round(max(run.peak_mib for run in measured)),
            pairs=pairs,
        )
    for name, other in (
        ("petseg", "decode_limit"),
        ("petseg_copy", "tfds_builder"),
        ("petseg_copy", "naive_copy"),
    ):
        measuring.print_ratio(_STAGE, results, name, other, pairs=pairs)


def convert_in_full(raw_dir: Path, output_dir: Path, workers: int) -> None:
    """petseg, decoding every image and mask."""
    _convert(raw_dir, output_dir, workers, "full")


def convert_by_headers(raw_dir: Path, output_dir: Path, workers: int) -> None:
    """petseg, checking only headers."""
    _convert(raw_dir, output_dir, workers, "header")


def copy_naively(raw_dir: Path, output_dir: Path, workers: int) -> None:
    """The simplest loop: one thread, one file, no checks, no hash, no flush."""
    del workers
    with tf.io.TFRecordWriter(str(output_dir / "all.tfrecord")) as writer:
        for image, mask in _paths(raw_dir):
            writer.write(
                record.encode_record(
                    record.Record(
                        name=image.stem,
                        filename=image.name,
                        image=image.read_bytes(),
                        mask=mask.read_bytes(),
                        height=0,
                        width=0,
                        class_label=0,
                        class_text="",
                    )
                )
            )


def build_with_tfds(raw_dir: Path, output_dir: Path, workers: int) -> None:
    """TFDS's download_and_prepare of the same folder; it does not check images."""
    del workers

    class Pets(tfds.core.GeneratorBasedBuilder):
        """The folder as a TFDS data set."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(encoding_format="jpeg"),
                        "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                        "file_name": tfds.features.Text(),
                    }
                ),
            )

        def _split_generators(self, manager: object) -> dict:
            del manager
            return {"train": self._generate_examples()}

        def _generate_examples(self):  # noqa: ANN202  (TFDS's own types)
            for image, mask in _paths(raw_dir):
                yield (
                    image.stem,
                    {"image": str(image), "mask": str(mask), "file_name": image.name},
                )

    with contextlib.redirect_stdout(sys.stderr):  # standard output is for JSON
        Pets(data_dir=str(output_dir), file_format="tfrecord").download_and_prepare()


def decode_only(raw_dir: Path, output_dir: Path, workers: int) -> None:
    """Reads and decodes every image and mask at full size with tf.data; writes nothing."""
    del output_dir

    def decode(image: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        pixels = tf.size(record.decode_image(tf.io.read_file(image)))
        return pixels + tf.size(record.decode_mask(tf.io.read_file(mask)))

    images, masks = zip(*((str(i), str(m)) for i, m in _paths(raw_dir)), strict=True)
    dataset = tf.data.Dataset.from_tensor_slices((list(images), list(masks)))
    for _ in dataset.map(decode, num_parallel_calls=workers).batch(64):
        pass


def convert_smaller(raw_dir: Path, output_dir: Path, workers: int) -> None:
    """petseg, reducing images to a short side of 256 pixels."""
    _convert(raw_dir, output_dir, workers, "full", short_side_px=256)


def _convert(
    raw_dir: Path, output_dir: Path, workers: int, validate: str, short_side_px: int = 0
) -> None:
    options = ConvertOptions(
        output_dir=str(output_dir),
        source="oxford_iiit_pet",
        raw_dir=str(raw_dir),
        validation_fraction=0.0,
        validate=validate,
        short_side_px=short_side_px,
        on_bad="fail",
        workers=workers,
    )
    convert(options, show_progress=False)


def _paths(raw_dir: Path) -> list[tuple[Path, Path]]:
    trimaps = raw_dir / "annotations" / "trimaps"
    images = sorted((raw_dir / "images").iterdir())
    return [(image, trimaps / f"{image.stem}.png") for image in images]


def _link_pairs(raw_dir: Path, linked: Path, count: int) -> int:
    """Fills a folder in the official layout with pairs of another; returns their bytes."""
    for folder in ("images", "annotations/trimaps"):
        (linked / folder).mkdir(parents=True)
    trimaps = raw_dir / "annotations" / "trimaps"
    sources = []
    for image in sorted((raw_dir / "images").glob("*.jpg")):
        mask = trimaps / f"{image.stem}.png"
        if mask.exists() and image.open("rb").read(2) == b"\xff\xd8":
            sources.append((image, mask))
    if not sources:
        raise UserError(f"--raw_dir: {raw_dir} has no pair images/*.jpg, annotations/trimaps/*.png")
    names, size = [], 0
    for index in range(count):
        image, mask = sources[index % len(sources)]
        name = f"{image.stem.rpartition('_')[0]}_{index}"
        for source, target in (
            (image, linked / "images" / f"{name}.jpg"),
            (mask, linked / "annotations" / "trimaps" / f"{name}.png"),
        ):
            if index < len(sources):
                shutil.copyfile(source, target)
            else:
                first = sources[index % len(sources)][0].stem.rpartition("_")[0]
                original = f"{first}_{index % len(sources)}{target.suffix}"
                os.link(target.parent / original, target)
            size += target.stat().st_size
        names.append(f"{name} 1 1 1\n")
    (linked / "annotations" / "trainval.txt").write_text("".join(names))
    return size


def _timed(
    run: Callable[[Path, Path, int], None],
    raw_dir: Path,
    scratch: Path,
    workers: int,
    pairs: int,
) -> float:
    """Pairs per second of one run, into a folder that is deleted afterwards."""
    output_dir = scratch / "output"
    output_dir.mkdir()
    started_s = time.perf_counter()
    run(raw_dir, output_dir, workers)
    elapsed_s = time.perf_counter() - started_s
    shutil.rmtree(output_dir)
    return pairs / elapsed_s
