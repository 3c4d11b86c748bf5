"""What limits training, the input or the model, and what to do about it."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator

import tensorflow as tf

from petseg import config_json, config_rules, free_memory
from petseg.config import Config
from petseg.config_rules import FEATURE_CACHE_DIR
from petseg.cores import usable_cores
from petseg.data import record, store_kinds
from petseg.data.manifest import Split
from petseg.errors import UserError
from petseg.image_size import ImageSize, readable, sides_of
from petseg.input_pipeline import decoded_store, reading
from petseg.training import distribution, precision, setup
from petseg.training.data import DataSet
from petseg.training.setup import RunSetup
from petseg.training.stages import StageTrainer

_BALANCE = 1.25  # rates that differ by less than this factor count as equal
_SMALLEST_GAIN = 1.15  # advice that promises less is not given
# Share of the input's time that grows with the area of the stored images: decoding, against
# all of it (decode and train of petseg-benchmark --stage=input).
_DECODING_SHARE = 0.75
# Share of the time of decoding whole pictures that training saves if they are decoded once
# (plain_decode_limit, train and train_decoded of petseg-benchmark --stage=input).
_SAVED_SHARE = 0.65
_STORED_OVER_SHOWN = 8 / 7  # what to store for windows: 256 pixels for 224
_MUCH_LARGER = 1.25  # how much the stored images must exceed that


@dataclasses.dataclass(frozen=True)
class Figures:
    """What was measured, in images/s unless stated otherwise.

    Attributes:
      read: Reading serialized records, in training order.
      decode: Reading and decoding whole images and masks.
      input: The whole training pipeline, without a model.
      model: Training steps on one batch in memory.
      cores: Cores of this machine.
      has_gpu: Whether the model runs on other devices than the input.
      is_bfloat16_faster: Whether the model computes in float32 on devices that multiply
        bfloat16 faster.
      image_size: Of the model's input, in pixels.
      short_side: Mean of the stored images, in pixels.
      needed_short_side: What it would be if they had just the pixels of the model's input.
      decoded_bytes: What the training images and masks take decoded; 0 if this machine does not
        decode them in every epoch.
      free_bytes: Of memory.
    """

    read: float
    decode: float
    input: float
    model: float
    cores: int
    has_gpu: bool
    is_bfloat16_faster: bool
    image_size: ImageSize
    short_side: float
    needed_short_side: float
    decoded_bytes: int
    free_bytes: int


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What the figures mean.

    Attributes:
      verdict: 'input bound', 'model bound' or 'balanced'.
      summary: One line.
      advice: One line for each remedy, the greatest gain first.
    """

    verdict: str
    summary: str
    advice: tuple[str, ...]

    def text(self) -> str:
        """All of it, a line each."""
        return "\n".join([f"{self.verdict}: {self.summary}", *(f"- {a}" for a in self.advice)])


def examine(config: Config, seconds: float) -> tuple[Figures, Diagnosis]:
    """Measures what would limit training with these settings, without a run folder.

    Args:
      config: The settings.
      seconds: How long each part is measured, at least.

    Raises:
      UserError: A setting or the data set is wrong.
    """
    config_rules.validate(config)
    if config.data.feature_cache_dir:
        raise UserError(f"{FEATURE_CACHE_DIR}: only training on images is measured; leave it out")
    config = config_json.spell_out(config)
    run = setup.prepare_run(config, None, setup.choose_devices(config))
    return examine_run(run, run.stage, 0, seconds)


def examine_run(
    run: RunSetup, stage: StageTrainer, step: int, seconds: float
) -> tuple[Figures, Diagnosis]:
    """Measures every part of a run; the model's variables are as before when it returns.

    Args:
      run: A run on images.
      stage: Its current stage.
      step: Number of steps taken so far.
      seconds: How long each part is measured, at least.
    """
    batch_size, train = run.data.options.batch_size, run.data.train
    shards = run.data.shards(train)
    read = reading.read_epochs(shards, shuffle_records=1, seed=0).batch(batch_size)
    decode = (
        reading.read_epochs(shards, shuffle_records=1, seed=0)
        .map(_decoded_size, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )
    batches = iter(run.batches.train(stage.trainable, step))
    one_batch = tf.data.Dataset.from_tensors(next(batches)).repeat()
    distributed = iter(distribution.distribute(run.devices, one_batch))

    def train_one_step() -> None:
        stage.train(distributed, step, 1)

    is_float32 = run.config.devices.precision == "float32"
    figures = Figures(
        read=_rate(iter(read), batch_size, seconds),
        decode=_rate(iter(decode), batch_size, seconds),
        input=_rate(batches, batch_size, seconds),
        model=_model_rate(train_one_step, stage.state.variables(), batch_size, seconds),
        cores=usable_cores(),
        has_gpu=run.options.has_gpu,
        is_bfloat16_faster=is_float32 and precision.is_bfloat16_faster(),
        image_size=run.options.image_size,
        short_side=min(train.mean_height, train.mean_width),
        needed_short_side=_needed_short_side(run.options.image_size, train),
        decoded_bytes=_bytes_to_decode(run.data),
        free_bytes=free_memory.available_bytes(),
    )
    return figures, diagnose(figures)


def _bytes_to_decode(data: DataSet) -> int:
    """About what images and masks take decoded: as if all were of the mean size.

    0 if they are decoded already, or a service does it.
    """
    is_raw = data.manifest.store == store_kinds.RAW
    if data.decoded or is_raw or data.options.service_address:
        return 0
    train = data.train
    return round(4 * train.records * train.mean_height * train.mean_width)


def _needed_short_side(image_size: ImageSize, train: Split) -> float:
    """The shorter side of images of the stored ones' aspect that cover the model's input."""
    height, width = sides_of(image_size)
    short_side = min(train.mean_height, train.mean_width)
    # For a square the shorter side has to cover it: exactly that, not rounded.
    return max(height * (short_side / train.mean_height), width * (short_side / train.mean_width))


def diagnose(figures: Figures) -> Diagnosis:
    """Names the bottleneck and what to do about it, in the order of the gain."""
    f = figures
    here = f"the input gives {f.input:,.0f} images/s on {f.cores} cores"
    model = f"the model takes {f.model:,.0f}"
    parts = f"reading alone {f.read:,.0f}, decoding {f.decode:,.0f}"
    if f.model > _BALANCE * f.input:
        return Diagnosis("input bound", f"{here} ({parts}), {model}", tuple(_input_advice(f)))
    if f.input > _BALANCE * f.model:
        return Diagnosis(
            "model bound", f"{model} images/s, {here} ({parts})", tuple(_model_advice(f))
        )
    shared = "" if f.has_gpu else "; both share the cores, so together they reach less"
    return Diagnosis("balanced", f"{here} ({parts}), {model}{shared}", tuple(_input_advice(f)))


def _input_advice(f: Figures) -> list[str]:
    remedies = [_smaller(f), _decoded_once(f), _faster_reading(f)]
    lines = [
        # Faster than the model is no gain.
        f"{text} for about {min(gain, f.model / f.input):.1f}x"
        for gain, text in sorted(remedies, reverse=True)
        if min(gain, f.model / f.input) > _SMALLEST_GAIN
    ]
    cores = math.ceil(f.cores * f.model / f.input)
    if cores > f.cores:
        lines.append(
            f"or {cores} cores would keep up; config.data.service_address lets other "
            "machines decode"
        )
    return lines


def _smaller(f: Figures) -> tuple[float, str]:
    """The gain if smaller pictures were stored."""
    wanted = 32 * math.ceil(f.needed_short_side * _STORED_OVER_SHOWN / 32)
    if f.short_side < _MUCH_LARGER * wanted:
        return 1.0, ""
    area = (wanted / f.short_side) ** 2
    return 1 / (1 - _DECODING_SHARE * (1 - area)), f"convert with --short_side={wanted}"


def _decoded_once(f: Figures) -> tuple[float, str]:
    """The gain if pictures were decoded once, and not in every epoch."""
    if not f.decoded_bytes:
        return 1.0, ""
    saved = min(_SAVED_SHARE * f.input / f.decode, 0.8)
    fits = f.decoded_bytes < decoded_store.SHARE_OF_FREE_MEMORY * f.free_bytes
    where = "memory" if fits else "a folder on a local disk"
    return 1 / (1 - saved), (
        f"decode once (config.data.cache_decoded=True, config.data.cache={where}: about "
        f"{f.decoded_bytes >> 20:,} MiB)"
    )


def _faster_reading(f: Figures) -> tuple[float, str]:
    """The gain if reading took no time."""
    reading = min(f.input / f.read, 0.8)
    return 1 / (
        1 - reading
    ), "copy the shards to memory or a local disk (config.data.cache=memory or a folder)"


def _model_advice(f: Figures) -> list[str]:
    devices = "more GPUs" if f.has_gpu else "a GPU"
    lines = [
        f"the input could feed {f.input / f.model:,.1f} times as much: use {devices}, or a "
        f"smaller config.data.image_size (half of {readable(f.image_size)} takes a quarter of the "
        "work)"
    ]
    if f.is_bfloat16_faster:
        here = "this GPU" if f.has_gpu else "this CPU (AMX)"
        lines.insert(
            0,
            f"{here} multiplies bfloat16 faster than float32: config.devices.precision="
            "mixed_bfloat16",
        )
    return lines


def _rate(batches: Iterator, batch_size: int, seconds: float) -> float:
    """Images/s of a stream of batches, once its buffers are filled."""
    for _ in range(2):
        next(batches)
    return batch_size * _calls_per_second(lambda: next(batches), seconds)


def _model_rate(
    train_one_step: Callable[[], None],
    variables: Iterable[tf.Variable],
    batch_size: int,
    seconds: float,
) -> float:
    """Images/s of training steps, which leave no trace in the variables."""
    before = [(variable, variable.numpy()) for variable in variables]
    try:
        train_one_step()  # compiles
        return batch_size * _calls_per_second(train_one_step, seconds)
    finally:
        for variable, value in before:
            variable.assign(value)


def _calls_per_second(call: Callable[[], object], seconds: float) -> float:
    calls, elapsed_s, started_s = 0, 0.0, time.perf_counter()
    while elapsed_s < seconds or not calls:
        call()
        calls += 1
        elapsed_s = time.perf_counter() - started_s
    return calls / elapsed_s


@tf.autograph.experimental.do_not_convert
def _decoded_size(serialized: tf.Tensor) -> tf.Tensor:
    """Decodes a record; returns a number that depends on all of it."""
    fields = record.parse_record(serialized)
    image, mask = record.decode_image(fields[record.IMAGE]), record.decode_mask(fields[record.MASK])
    return tf.size(image) + tf.size(mask)
