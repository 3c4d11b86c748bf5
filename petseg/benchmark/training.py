"""Measures training steps, the loop around them and replicas beside the encoder's forward pass."""

import copy
import dataclasses
import functools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import psutil
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from petseg import config_json, config_rules, progress
from petseg.benchmark import measuring
from petseg.benchmark.measuring import Candidate
from petseg.config import Config
from petseg.data import manifest, output_folder
from petseg.data.label_map import IGNORE
from petseg.devices import Devices
from petseg.feature_cache import fill, store
from petseg.feature_cache.feature_batches import FeatureBatches
from petseg.feature_cache.views import ViewOptions
from petseg.input_pipeline.image_batches import ImageBatches
from petseg.losses.terms import parse_loss
from petseg.models import segmentation_model
from petseg.models.encoders.base import IMAGE
from petseg.models.segmentation_model import SegmentationModel
from petseg.run_dir.trained_model import model_options
from petseg.training import data, distribution, setup, trainer

_SIZE = 224
_BATCH_SIZE = 16
_CLASSES = 3
_UNMEASURED_POINTS = 2  # the first of a curve, which include compilation
_CACHED_STEPS = 8  # times more steps on cached features, which are much faster
_TINY_STEPS = 10_000
_MIB = 1 << 20
_REDUCTIONS = 200
_ESTIMATED = 8
_SUM = tf.distribute.ReduceOp.SUM
# Assumptions of the estimate: bytes per second of a link each way, latency of a reduction.
_GPU_LINK, _HOST_LINK = 100e9, 1.25e9  # NVLink of a few lanes; 10 Gbit/s Ethernet
_GPU_LATENCY_S, _HOST_LATENCY_S = 50e-6, 500e-6


def benchmark_train(
    data_dir: str,
    weights: str,
    *,
    steps: int,
    rounds: int,
    only: Sequence[str],
    batch_size: int,
    feature_cache_dir: str | None,
    encoder: str = "vgg16",
    decoder: str = "fcn8s",
) -> None:
    """Prints the speed of the training step and the loop, and ratios.

    Args:
      data_dir: a converted data set.
      weights: the encoder's weights: 'none' or a file.
      steps: steps that each candidate takes a round; more on cached features.
      rounds: how often every candidate runs.
      only: names of candidates; empty for all.
      batch_size: global batch of all candidates.
      feature_cache_dir: folder of cached features, completed first; None leaves out the
        candidates on features.
      encoder: a name of registry.ENCODERS.
      decoder: a name of registry.DECODERS.
    """
    config = _config(data_dir, weights)
    config.data.batch_size = batch_size
    config.model.encoder, config.model.decoder = encoder, decoder
    runs = {
        "forward_only": functools.partial(forward_only, config, steps),
        "bare_step": functools.partial(bare_step, config, steps),
        "keras_fit": functools.partial(keras_fit, config, steps),
        "loop_constant": functools.partial(run_loop, config, steps, is_constant=True),
        "loop_input": functools.partial(run_loop, config, steps, is_constant=False),
        "loop_constant_xla": functools.partial(
            run_loop, _changed(config, xla=True), steps, is_constant=True
        ),
        "loop_constant_bfloat16": functools.partial(
            run_loop, _changed(config, precision="mixed_bfloat16"), steps, is_constant=True
        ),
        "loop_constant_all": functools.partial(
            run_loop, _training_all(config), steps, is_constant=True
        ),
    }
    runs["memory_growth"] = functools.partial(_grow, data_dir)
    if feature_cache_dir:
        cached = copy.deepcopy(config)
        cached.data.feature_cache_dir = feature_cache_dir
        measuring.run_rounds([Candidate("fill", functools.partial(fill_cache, cached), 1)], 1, "")
        many = steps * _CACHED_STEPS
        runs |= {
            "cached_step": functools.partial(run_loop, cached, many, is_constant=True),
            "cached_loop": functools.partial(run_loop, cached, many, is_constant=False),
            "cache_build": functools.partial(build_cache, cached, steps * batch_size),
        }
        if decoder == "fcn8s":
            paper = copy.deepcopy(cached)
            paper.model.decoder_channels = 0  # FCN-8s as it was published
            runs["cached_loop_paper"] = functools.partial(run_loop, paper, many, is_constant=False)
    results = _measure(runs, rounds, only)
    for (name, _), measured in results.items():
        unit = "MiB" if name == "memory_growth" else "images/s"
        values = [run.speed for run in measured]
        more = {"steps": steps, "batch_size": batch_size, "encoder": encoder, "decoder": decoder}
        if name == "memory_growth":
            more = {"from_step": _TINY_STEPS // 2, "to_step": _TINY_STEPS}
        measuring.print_line("train", name, values, unit, **more)
    for name, other in (
        ("bare_step", "forward_only"),
        ("loop_constant", "bare_step"),
        ("loop_constant", "keras_fit"),
        ("loop_constant", "forward_only"),
        ("loop_input", "loop_constant"),
        ("loop_constant_xla", "loop_constant"),
        ("loop_constant_bfloat16", "loop_constant"),
        ("loop_constant_all", "loop_constant"),
        ("cached_loop", "loop_input"),
        ("cached_loop", "cached_step"),
        ("cached_loop_paper", "loop_input"),
        ("cache_build", "forward_only"),
    ):
        more = {"steps": steps, "encoder": encoder, "decoder": decoder}
        measuring.print_ratio("train", results, name, other, **more)
    _print_shares({name: [run.speed for run in runs] for (name, _), runs in results.items()})


def _print_shares(speeds: dict[str, list[float]]) -> None:
    """Prints the share of a training step that each part takes; noise can make it negative."""
    order = ("forward_only", "bare_step", "loop_constant", "loop_input")
    if not all(name in speeds for name in order):
        return
    rounds = zip(*(speeds[name] for name in order), strict=True)
    times = [[1 / speed for speed in round_] for round_ in rounds]
    parts = ("forward", "decoder_loss_and_update", "loop", "input")
    for index, part in enumerate(parts):
        shares = [(t[index] - (t[index - 1] if index else 0)) / t[-1] for t in times]
        measuring.print_line("train", f"share_{part}", shares, "ratio")


def forward_only(config: Config, steps: int) -> float:
    """Images per second of the encoder's forward pass on one batch."""
    model = _build_model(config)
    images = _one_batch(config)[IMAGE]

    @tf.function(autograph=False)
    def forward() -> tf.Tensor:
        return tf.reduce_sum(model.features({IMAGE: images})[0])

    return _speed(lambda: forward().numpy(), steps, config.data.batch_size)


def bare_step(config: Config, steps: int) -> float:
    """Images per second of a plain compiled step on one batch: a tape, a loss, Keras's Adam."""
    model = _build_model(config)
    optimizer = keras.optimizers.Adam(1e-4)
    variables = model.decoder.trainable_variables
    optimizer.build(variables)
    batch = _one_batch(config)
    truth = tf.cast(batch["mask"], tf.int32)
    valid = tf.cast(truth != IGNORE, tf.float32)

    @tf.function(autograph=False)
    def step() -> tf.Tensor:
        features = model.features({IMAGE: batch[IMAGE]})
        with tf.GradientTape() as tape:
            logits = model.decoder(features, training=True)
            per_pixel = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.minimum(truth, 2), logits)
            loss = tf.reduce_sum(per_pixel * valid) / tf.reduce_sum(valid)
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        return loss

    return _speed(lambda: step().numpy(), steps, config.data.batch_size)


def keras_fit(config: Config, steps: int) -> float:
    """Images per second of Keras's own `fit` of the joined model on one batch."""
    model = _build_model(config)
    for stage in model.encoder.stages.values():
        stage.trainable = False
    joined = model.keras_model()
    joined.compile(
        keras.optimizers.Adam(1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORE),
    )
    batch = _one_batch(config)
    batches = tf.data.Dataset.from_tensors((batch[IMAGE], batch["mask"])).cache().repeat()

    def fit(count: int) -> None:
        joined.fit(batches, steps_per_epoch=count, verbose=0)

    fit(2)
    started_s = time.perf_counter()
    fit(steps)
    return steps * config.data.batch_size / (time.perf_counter() - started_s)


def run_loop(config: Config, steps: int, *, is_constant: bool) -> float:
    """Images per second of the trainer: the median of the curve that it logs."""
    config = copy.deepcopy(config)
    every = max(steps // 4, 1)
    config.train.log_every_steps = every
    records = manifest.read_manifest(config.data.dir).splits["train"].records
    total = every * (4 + _UNMEASURED_POINTS)
    config.train.epochs = total * config.data.batch_size / records
    config.train.evaluate_every_epochs = 1e9
    if is_constant:
        _feed_one_batch()
    with tempfile.TemporaryDirectory() as run:
        trainer.train_and_evaluate(config, run)
        points = _curve(Path(run) / "train", "input/images_per_second")
    return statistics.median(points[_UNMEASURED_POINTS:])


def fill_cache(config: Config) -> float:
    """Completes the feature cache for the candidates that read it; returns 0."""
    _prepare(config)
    return 0.0


def build_cache(config: Config, images: int) -> float:
    """Images per second of computing features and writing them to a new cache."""
    run = _prepare(config)
    train = run.data.train
    part = dataclasses.replace(
        store.plan_parts(["whole"], train, train)[0], records=min(images, train.records)
    )
    layout = run.batches.cache.layout
    extract = fill.make_extract(run.model, layout, run.devices)
    extract(np.zeros((1, _SIZE, _SIZE, 3), np.uint8))  # compiles
    wanted = np.arange(train.records) < part.records
    views = ViewOptions(config.augment, config.data.image_size, config.data.keep_aspect)
    source = fill.Source(config.data.dir, run.data.manifest, views)
    with tempfile.TemporaryDirectory() as folder, output_folder.claim(folder, "benchmark"):
        started_s = time.perf_counter()
        written = fill.write_shards(
            folder,
            store.plan_tasks([part], layout),
            "benchmark",
            lambda part, _: source.read(part, wanted, _BATCH_SIZE),
            extract,
        )
        return sum(written) / (time.perf_counter() - started_s)


def _prepare(config: Config) -> setup.RunSetup:
    config_rules.validate(config)
    config = config_json.spell_out(config)
    return setup.prepare_run(config, None, setup.choose_devices(config))


def _build_model(config: Config, weights: str | None = None) -> SegmentationModel:
    return segmentation_model.build_model(
        model_options(config),
        num_classes=_CLASSES,
        image_size=config.data.image_size,
        weights=weights or config.model.encoder_weights,
    )


def benchmark_scaling(
    data_dir: str, weights: str, *, steps: int, rounds: int, replicas: Sequence[int]
) -> None:
    """Prints the speed and overhead of replicas, and estimates for eight GPUs and eight hosts.

    Args:
      data_dir: a converted data set.
      weights: the encoder's weights: 'none' or a file.
      steps: steps that each candidate takes a round.
      rounds: how often every candidate runs.
      replicas: numbers of replicas to measure; logical CPU devices if there is no GPU.
    """
    config = _config(data_dir, weights)
    runs: dict[str, Callable[[], float]] = {
        f"replicas_{count}": functools.partial(
            run_loop,
            _changed(config, strategy="mirrored", cpu_replicas=count),
            steps,
            is_constant=True,
        )
        for count in replicas
    }
    for count in replicas[1:]:
        runs[f"all_reduce_{count}"] = functools.partial(all_reduces, config, count)
    runs["replicas_1_all"] = functools.partial(
        run_loop, _training_all(config), steps, is_constant=True
    )
    results = _measure(runs, rounds, ())
    speeds = {name: [run.speed for run in measured] for (name, _), measured in results.items()}
    for count in replicas[1:]:
        times_ms = [1e3 / speed for speed in speeds.pop(f"all_reduce_{count}")]
        measuring.print_line("scaling", f"all_reduce_{count}_ms", times_ms, "ms", trained="decoder")
        step_ms = 1e3 * _BATCH_SIZE / statistics.median(speeds[f"replicas_{count}"])
        shares = [time_ms / step_ms for time_ms in times_ms]
        measuring.print_line("scaling", f"all_reduce_{count}_share", shares, "ratio")
    for name, values in speeds.items():
        measuring.print_line(
            "scaling", name, values, "images/s", steps=steps, batch_size=_BATCH_SIZE
        )
    for count in replicas[1:]:
        measuring.print_ratio("scaling", results, f"replicas_{count}", "replicas_1", steps=steps)
    for trained, part, name in (
        ("decoder", "decoder", "replicas_1"),
        ("all", "all", "replicas_1_all"),
    ):
        reduced = _reduced_bytes(config, part)
        measuring.print_line("scaling", f"all_reduce_bytes_{trained}", [reduced], "bytes/step")
        step_s = _BATCH_SIZE / statistics.median(speeds[name])
        for what, link, latency_s in (
            ("8_devices", _GPU_LINK, _GPU_LATENCY_S),
            ("8_hosts", _HOST_LINK, _HOST_LATENCY_S),
        ):
            _print_estimate(f"estimate_{what}_{trained}", step_s, reduced, link, latency_s)


def all_reduces(config: Config, replicas: int) -> float:
    """All-reduces per second of the decoder's gradients over some replicas."""
    strategy = tf.distribute.MirroredStrategy(distribution.local_devices(replicas))
    model = _build_model(config, "none")
    gradients = [tf.ones(v.shape) for v in model.decoder.trainable_variables]

    def reduce() -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        reduced = context.all_reduce(_SUM, [tf.identity(one) for one in gradients])
        return tf.add_n([tf.reduce_sum(one) for one in reduced])

    @tf.function(autograph=False)
    def run() -> tf.Tensor:
        return strategy.reduce(_SUM, strategy.run(reduce), axis=None)

    run()
    started_s = time.perf_counter()
    for _ in range(_REDUCTIONS):
        run().numpy()
    return _REDUCTIONS / (time.perf_counter() - started_s)


def _print_estimate(name: str, step_s: float, reduced: int, link: float, latency_s: float) -> None:
    """Prints the estimated speed of eight such devices, each with the measured batch."""
    reduce_s = 2 * (_ESTIMATED - 1) / _ESTIMATED * reduced / link + 2 * latency_s
    measuring.print_line(
        "scaling",
        name,
        [_ESTIMATED * _BATCH_SIZE / (step_s + reduce_s)],
        "images/s",
        efficiency=round(step_s / (step_s + reduce_s), 3),
        formula="n b / (t + 2 (n-1)/n B / L + 2 l): n devices like this one, b images each, "
        "t s/step measured on one, B bytes reduced, L bytes/s of a link, l s latency of each "
        "of two reductions",
        n=_ESTIMATED,
        b=_BATCH_SIZE,
        t=round(step_s, 4),
        B=reduced,
        L=link,
        l=latency_s,
    )


def _config(data_dir: str, weights: str) -> Config:
    config = Config()
    config.data.dir = data_dir
    config.data.image_size = _SIZE
    config.data.batch_size = _BATCH_SIZE
    config.model.encoder_weights = weights
    config.train.bottleneck_seconds = 0.0
    config.train.panel_images = 1
    return config


def _changed(config: Config, **devices: object) -> Config:
    """The config with other settings of devices."""
    config = copy.deepcopy(config)
    config.devices = dataclasses.replace(config.devices, force=True, **devices)
    return config


def _training_all(config: Config) -> Config:
    config = copy.deepcopy(config)
    config.train.trainable = "all"
    return config


def _one_batch(config: Config) -> dict[str, tf.Tensor]:
    found = data.open_data_set(config_json.spell_out(config))
    batches = found.image_batches(Devices(tf.distribute.get_strategy()))
    return next(iter(batches.train(config.train.trainable, 0)))


def _feed_one_batch() -> None:
    """Makes training in this process repeat its first batch from now on."""
    for source in (ImageBatches, FeatureBatches):
        make = source.train

        def train(
            self: ImageBatches | FeatureBatches, *arguments: object, make: Callable = make
        ) -> tf.data.Dataset:
            return make(self, *arguments).take(1).cache().repeat()

        source.train = train


def _reduced_bytes(config: Config, trained: str) -> int:
    """Bytes of the gradients, the losses and the number of valid pixels, in float32."""
    weights = _build_model(config, "none").trainable_weights(trained)
    numbers = sum(math.prod(weight.shape) for weight in weights)
    return 4 * (numbers + len(parse_loss(config.train.loss)) + 1)


def _grow(data_dir: str) -> float:
    """MiB by which memory grows in the second half of 10,000 tiny training steps."""
    config = _config(data_dir, "none")
    config.data.image_size = 32
    config.data.batch_size = 4
    config.model.encoder_width = 1
    config.model.encoder_convs = (1, 1, 1, 1, 1)
    records = manifest.read_manifest(data_dir).splits["train"].records
    config.train.epochs = _TINY_STEPS * 4 / records
    config.train.evaluate_every_epochs = 1e9
    held: dict[int, int] = {}
    show = progress.Progress.show

    def note(self: progress.Progress, *figures: str) -> None:
        held[int(self.done)] = psutil.Process().memory_info().rss
        show(self, *figures)

    progress.Progress.show = note
    _feed_one_batch()
    with tempfile.TemporaryDirectory() as run:
        trainer.train_and_evaluate(config, run)
    return (held[_TINY_STEPS] - held[_TINY_STEPS // 2]) / _MIB


def _curve(folder: Path, tag: str) -> list[float]:
    """The values of a curve, ordered by step."""
    reader = event_accumulator.EventAccumulator(str(folder), {"tensors": 0})
    reader.Reload()
    return [float(tf.make_ndarray(event.tensor_proto)) for event in reader.Tensors(tag)]


def _speed(call: Callable[[], object], steps: int, batch_size: int) -> float:
    """Images per second of a call, after two warm-up calls."""
    for _ in range(2):
        call()
    started_s = time.perf_counter()
    for _ in range(steps):
        call()
    return steps * batch_size / (time.perf_counter() - started_s)


def _measure(
    runs: dict[str, Callable[[], float]], rounds: int, only: Sequence[str]
) -> dict[tuple[str, int], list[measuring.Measured]]:
    candidates = [Candidate(n, run, 1) for n, run in runs.items() if not only or n in only]
    return measuring.run_rounds(candidates, rounds, "a second")
