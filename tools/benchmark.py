"""Measures petseg's stages beside what bounds them and what others do.

  python tools/benchmark.py --stage=convert [--raw_dir=DIR] [--pairs=7000] [--rounds=5]

Every round runs every candidate once, each in a process of its own, so that what else the
machine does meets all alike. One JSON object a line on standard output: `value` is the
median of the rounds, with `min` and `max`. Ratios are medians of the rounds' own ratios.
Statuses: 0 done; 1 a candidate failed; 2 a wrong command or folder.
"""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from petseg import command_line  # isort: skip  (quiets TensorFlow before it loads)
import psutil
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import flags

from petseg import manifest, record
from petseg.conversion import output_folder, oxford_iiit_pet
from petseg.conversion.prepare import Settings
from petseg.conversion.write_dataset import Runner, write_dataset
from petseg.errors import FaultFound, UserError
from petseg.input_pipeline import batches
from petseg.label_map import parse_label_map

_STAGE = flags.DEFINE_enum("stage", None, ["convert"], "What is measured.", required=True)
_RAW_DIR = flags.DEFINE_string(
    "raw_dir", None, "Pairs in the official pets layout; toy pets are drawn without it."
)
_PAIRS = flags.DEFINE_integer(
    "pairs", 7000, "How many: those of raw_dir again and again under other names.", lower_bound=1
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds of all candidates.", lower_bound=1)
_WORKERS = flags.DEFINE_list("workers", None, "Workers to measure petseg with; 1 and all cores.")
_ONLY = flags.DEFINE_list("only", None, "Names of the candidates; all by default.")
_SCRATCH_DIR = flags.DEFINE_string("scratch_dir", None, "For temporary files; default: /tmp.")

_BATCH_SIZE = 32
_SAMPLE_S = 0.5  # between two looks at the memory


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One thing to measure.

    Attributes:
      name: as printed.
      workers: threads that it may use.
      run: called with (raw folder, output folder, workers), and timed.
      prepare: called before it with the same arguments, not timed.
    """

    name: str
    workers: int
    run: Callable[[Path, Path, int], None]
    prepare: Callable[[Path, Path, int], None] | None = None


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run: its time, and the most memory that its processes held together.

    Memory is the proportional set size: what several processes share counts once.
    """

    seconds: float
    peak_mib: float


def convert_in_full(raw_dir: Path, output_dir: Path, workers: int) -> None:
    """petseg, every picture decoded."""
    _convert(raw_dir, output_dir, workers, "full")


def convert_by_headers(raw_dir: Path, output_dir: Path, workers: int) -> None:
    """petseg, headers only."""
    _convert(raw_dir, output_dir, workers, "header")


def copy_naively(raw_dir: Path, output_dir: Path, workers: int) -> None:
    """One thread, one file, no look at the pictures, no hash, no flush: the simplest loop."""
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
    """TFDS's own download_and_prepare of the same folder; it does not look at pictures."""
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
    """Reads and decodes every image and mask at full size with tf.data, and writes nothing."""
    del output_dir

    def decode(image: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        pixels = tf.size(record.decode_image(tf.io.read_file(image)))
        return pixels + tf.size(record.decode_mask(tf.io.read_file(mask)))

    images, masks = zip(*((str(i), str(m)) for i, m in _paths(raw_dir)), strict=True)
    dataset = tf.data.Dataset.from_tensor_slices((list(images), list(masks)))
    for _ in dataset.map(decode, num_parallel_calls=workers).batch(64):
        pass


def convert_smaller(raw_dir: Path, output_dir: Path, workers: int) -> None:
    """petseg, with a short side of 256 pixels."""
    _convert(raw_dir, output_dir, workers, "full", short_side_px=256)


def read_for_training(raw_dir: Path, output_dir: Path, workers: int) -> None:
    """One epoch of the training pipeline: random windows, flips, 224 pixels, no model."""
    del raw_dir, workers
    split = manifest.read_manifest(str(output_dir)).splits["train"]
    dataset = batches.make_for_train(
        manifest.shard_paths(str(output_dir), split),
        num_records=split.records,
        class_ids=parse_label_map("three_class").class_ids(),
        image_size=224,
        batch_size=_BATCH_SIZE,
        shuffle_records=1024,
        flip=True,
        min_crop_area=0.25,
        max_crop_aspect=4 / 3,
        seed=0,
    )
    for _ in dataset.take(max(1, split.records // _BATCH_SIZE)):
        pass


def _convert(
    raw_dir: Path, output_dir: Path, workers: int, validate: str, short_side_px: int = 0
) -> None:
    with output_folder.claim(str(output_dir)):
        listing = oxford_iiit_pet.list_oxford_iiit_pet(str(raw_dir), 0.0, "")
        write_dataset(
            listing,
            str(output_dir),
            name="pets",
            source={},
            settings=Settings(listing.masks, validate, short_side_px),
            shard_mib=128,
            fail_on_bad=True,
            runner=Runner(workers=workers, show_progress=False),
        )


def _paths(raw_dir: Path) -> list[tuple[Path, Path]]:
    trimaps = raw_dir / "annotations" / "trimaps"
    images = sorted((raw_dir / "images").iterdir())
    return [(image, trimaps / f"{image.stem}.png") for image in images]


def _link_pairs(raw_dir: Path, linked: Path, count: int) -> int:
    """Fills a folder in the official layout with pairs of another; gives their bytes."""
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


def _measure(candidate: Candidate, raw_dir: Path, scratch: Path) -> Measured:
    """Runs a candidate in a new process."""
    output_dir = scratch / "output"
    output_dir.mkdir()
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    process = context.Process(target=_run_one, args=(candidate, raw_dir, output_dir, queue))
    process.start()
    peak_bytes = 0
    while process.is_alive():
        process.join(_SAMPLE_S)
        peak_bytes = max(peak_bytes, _memory_bytes(process.pid))
    shutil.rmtree(output_dir)
    if process.exitcode:
        raise FaultFound(f"{candidate.name} failed with status {process.exitcode}")
    return Measured(queue.get(), peak_bytes / (1 << 20))


def _memory_bytes(pid: int) -> int:
    """What a process and its descendants hold at this moment."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(member.memory_full_info().pss for member in family)
    except psutil.Error:  # one of them has just ended
        return 0


def _run_one(candidate: Candidate, raw_dir: Path, output_dir: Path, queue: object) -> None:
    if candidate.prepare:
        candidate.prepare(raw_dir, output_dir, candidate.workers)
    started_s = time.perf_counter()
    candidate.run(raw_dir, output_dir, candidate.workers)
    queue.put(time.perf_counter() - started_s)


def _convert_candidates() -> list[Candidate]:
    cores = os.cpu_count() or 1
    counts = sorted({int(count) for count in _WORKERS.value or (1, cores)})
    found = [
        Candidate("decode_limit", cores, decode_only),
        Candidate("naive_copy", 1, copy_naively),
        Candidate("tfds_builder", 1, build_with_tfds),
    ]
    for workers in counts:
        found.append(Candidate("petseg", workers, convert_in_full))
        found.append(Candidate("petseg_copy", workers, convert_by_headers))
    found += [
        Candidate("input", cores, read_for_training, convert_by_headers),
        Candidate("input_short_side_256", cores, read_for_training, convert_smaller),
    ]
    wanted = _ONLY.value or [candidate.name for candidate in found]
    return [candidate for candidate in found if candidate.name in wanted]


def benchmark_convert(raw_dir: Path, pairs: int, rounds: int, scratch: Path) -> None:
    """Prints the conversion's table."""
    linked = scratch / "pairs"
    size_mb = _link_pairs(raw_dir, linked, pairs) / 1e6
    candidates = _convert_candidates()
    runs: dict[tuple[str, int], list[Measured]] = {}
    for round_ in range(rounds):
        for candidate in candidates:
            measured = _measure(candidate, linked, scratch)
            runs.setdefault((candidate.name, candidate.workers), []).append(measured)
            print(
                f"round {round_ + 1} of {rounds}: {candidate.name}, {candidate.workers} worker(s): "
                f"{pairs / measured.seconds:,.0f} pairs/s, {measured.peak_mib:,.0f} MiB",
                file=sys.stderr,
            )
    for (name, workers), measured in runs.items():
        rates = [pairs / run.seconds for run in measured]
        _print_line(
            name,
            rates,
            "pairs/s",
            workers=workers,
            mb_per_s=round(size_mb / pairs * statistics.median(rates), 1),
            peak_mib=round(max(run.peak_mib for run in measured)),
            pairs=pairs,
        )
    most = max(workers for _, workers in runs)
    for name, other, other_workers in (
        ("petseg", "decode_limit", os.cpu_count() or 1),
        ("petseg_copy", "tfds_builder", 1),
        ("petseg_copy", "naive_copy", 1),
        ("input_short_side_256", "input", os.cpu_count() or 1),
    ):
        if (name, most) in runs and (other, other_workers) in runs:
            ours, theirs = runs[name, most], runs[other, other_workers]
            ratios = [b.seconds / a.seconds for a, b in zip(ours, theirs, strict=True)]
            _print_line(f"{name}/{other}", ratios, "ratio", workers=most, pairs=pairs)


def _print_line(name: str, values: Sequence[float], unit: str, **more: float) -> None:
    digits = 3 if unit == "ratio" else 1
    line = {
        "stage": _STAGE.value,
        "name": name,
        "value": round(statistics.median(values), digits),
        "unit": unit,
        "min": round(min(values), digits),
        "max": round(max(values), digits),
        "runs": len(values),
        **more,
    }
    print(json.dumps(line), flush=True)


def main(arguments: Sequence[str]) -> None:
    """Measures what the flags name."""
    if arguments:
        raise UserError(f"unexpected argument '{arguments[0]}'; every option is a --flag")
    with tempfile.TemporaryDirectory(dir=_SCRATCH_DIR.value) as scratch:
        raw_dir = Path(_RAW_DIR.value) if _RAW_DIR.value else Path(scratch) / "toy"
        if not _RAW_DIR.value:
            draw = Path(__file__).with_name("draw_toy_pets.py")
            subprocess.run([sys.executable, draw, f"--output_dir={raw_dir}"], check=True)
        benchmark_convert(raw_dir, _PAIRS.value, _ROUNDS.value, Path(scratch))


if __name__ == "__main__":
    command_line.run(main)
