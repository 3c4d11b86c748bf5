"""What limits training: the input or the model, and what to do about it."""

import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator

import tensorflow as tf

from petseg.data import record
from petseg.input_pipeline import shard_reading
from petseg.input_pipeline.shard_reading import Shards

_BALANCE = 1.25  # rates that differ by less than this factor count as equal
_SMALLEST_GAIN = 1.15  # advice that promises less is not given
# Of the input's time, what goes by the area of the stored images: decoding, against all of
# it (decode and train of tools/benchmark.py --stage=input).
_DECODING_SHARE = 0.75
_STORED_OVER_SHOWN = 8 / 7  # what to store for windows: 256 pixels for 224
_MUCH_LARGER = 1.25  # how much the stored images must exceed that


@dataclasses.dataclass(frozen=True)
class Figures:
    """What was measured, in images a second unless it says otherwise.

    Attributes:
      read: reading serialized records, in training order.
      decode: reading and decoding images and masks whole.
      input: the whole training pipeline, without a model.
      model: training steps on one batch that is already there.
      cores: of this machine.
      has_gpu: whether the model runs elsewhere than the input.
      is_bfloat16_faster: whether the model computes in float32 on devices that multiply
        bfloat16 faster.
      image_size: of the model's input, in pixels.
      short_side: mean of the stored images, in pixels.
    """

    read: float
    decode: float
    input: float
    model: float
    cores: int
    has_gpu: bool
    is_bfloat16_faster: bool
    image_size: int
    short_side: float


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What the figures mean.

    Attributes:
      verdict: 'input bound', 'model bound' or 'balanced'.
      summary: one line.
      advice: one line for each remedy, the greatest gain first.
    """

    verdict: str
    summary: str
    advice: tuple[str, ...]

    def text(self) -> str:
        """All of it, a line each."""
        return "\n".join([f"{self.verdict}: {self.summary}", *(f"- {a}" for a in self.advice)])


def measure(
    shards: Shards,
    make_input: Callable[[], tf.data.Dataset],
    run_step: Callable[[Iterator], None],
    distribute: Callable[[tf.data.Dataset], Iterable],
    variables: Iterable[tf.Variable],
    *,
    batch_size: int,
    seconds: float,
    is_bfloat16_faster: bool,
    short_side: float,
    image_size: int,
) -> Figures:
    """Measures every stage; the model's variables are as before when it returns.

    Args:
      shards: of the training split.
      make_input: the training pipeline.
      run_step: trains on the next of some distributed batches and waits for the result.
      distribute: over the strategy's replicas.
      variables: all that run_step may change.
      batch_size: of the pipeline.
      seconds: how long each of the four stages is measured, at least.
      is_bfloat16_faster: see Figures.
      short_side: mean of the stored images, in pixels.
      image_size: of the model's input, in pixels.
    """
    read = shard_reading.read_epochs(shards, shuffle_records=1, seed=0).batch(batch_size)
    decode = (
        shard_reading.read_epochs(shards, shuffle_records=1, seed=0)
        .map(_decoded_size, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )
    batches = iter(make_input())
    one_batch = tf.data.Dataset.from_tensors(next(batches)).repeat()
    return Figures(
        read=_rate(iter(read), batch_size, seconds),
        decode=_rate(iter(decode), batch_size, seconds),
        input=_rate(batches, batch_size, seconds),
        model=_model_rate(run_step, iter(distribute(one_batch)), variables, batch_size, seconds),
        cores=len(os.sched_getaffinity(0)),
        has_gpu=bool(tf.config.list_physical_devices("GPU")),
        is_bfloat16_faster=is_bfloat16_faster,
        image_size=image_size,
        short_side=short_side,
    )


def diagnose(figures: Figures) -> Diagnosis:
    """Names the bottleneck and what to do, in the order of what it brings."""
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
    remedies = [(gain, text) for gain, text in (_smaller(f), _faster_reading(f))]
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
    wanted = 32 * math.ceil(f.image_size * _STORED_OVER_SHOWN / 32)
    if f.short_side < _MUCH_LARGER * wanted:
        return 1.0, ""
    area = (wanted / f.short_side) ** 2
    return 1 / (1 - _DECODING_SHARE * (1 - area)), f"convert with --short_side={wanted}"


def _faster_reading(f: Figures) -> tuple[float, str]:
    """The gain if reading took no time; working on what has been read takes the rest."""
    reading = min(f.input / f.read, 0.8)
    return 1 / (1 - reading), "copy the shards near (config.data.cache=memory or a local folder)"


def _model_advice(f: Figures) -> list[str]:
    devices = "more GPUs" if f.has_gpu else "a GPU"
    lines = [
        f"the input could feed {f.input / f.model:,.1f} times as much: use {devices}, or a "
        f"smaller config.data.image_size (half of {f.image_size} takes a quarter of the work)"
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
    run_step: Callable[[Iterator], None],
    batches: Iterator,
    variables: Iterable[tf.Variable],
    batch_size: int,
    seconds: float,
) -> float:
    """Images/s of training steps on one batch, which leave no trace in the variables."""
    before = [(variable, variable.numpy()) for variable in variables]
    try:
        run_step(batches)  # compiles
        return batch_size * _calls_per_second(lambda: run_step(batches), seconds)
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


def _decoded_size(serialized: tf.Tensor) -> tf.Tensor:
    """Decodes a record whole; a number for it, as nobody looks at the pictures."""
    fields = record.parse_record(serialized)
    image, mask = record.decode_image(fields[record.IMAGE]), record.decode_mask(fields[record.MASK])
    return tf.size(image) + tf.size(mask)
