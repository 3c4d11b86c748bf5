"""Checks that any number of this machine's devices ends with the same weights."""

import concurrent.futures
import dataclasses
import multiprocessing
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from petseg import config_json, config_rules, registry
from petseg.config import Config
from petseg.devices import Devices
from petseg.errors import FaultFound, UserError
from petseg.inference import eval_step
from petseg.training import distribution, setup, stages
from petseg.training.setup import RunSetup

_STEPS = 20
_TOLERANCE = 1e-5
_CPU_REPLICAS = 4


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of training with some number of replicas.

    Attributes:
      replicas: Their number.
      weights: Everything that a checkpoint would hold, by name.
      confusion: Counts over the validation split, with these weights.
      confusion_of_first: The same with the weights of the first outcome.
    """

    replicas: int
    weights: dict[str, np.ndarray]
    confusion: np.ndarray
    confusion_of_first: np.ndarray


def check_replicas(config: Config) -> Iterator[str]:
    """Trains 20 steps with 1, 2, 4, ... replicas and compares; yields lines of a table.

    On a machine without a GPU up to four logical CPU devices rehearse it. Arithmetic is
    float32, without TF32.

    Raises:
      UserError: A setting or the data set is wrong.
      FaultFound: Weights differ by more than 1e-5, or equal weights give other counts.
    """
    config_rules.validate(config)
    config = config_json.spell_out(config)
    config.devices.precision = "float32"
    counts = _replica_counts(config.data.batch_size)
    yield f"{'replicas':<10}{'largest difference of a weight':>32}{'pixels counted otherwise':>28}"
    first = _in_a_process(config, 1, None)
    faults = []
    for count in counts[1:]:
        outcome = _in_a_process(config, count, first)
        difference, moved, new_faults = compare(outcome, first)
        yield f"{count:<10}{difference:>32.2g}{moved:>28,}"
        faults += new_faults
    if faults:
        raise FaultFound("; ".join(faults))
    yield f"{_STEPS} steps; the same to {_TOLERANCE:g}; equal weights give equal counts"


def compare(outcome: Outcome, first: Outcome) -> tuple[float, int, list[str]]:
    """Compares the outcome of several replicas with that of one.

    Returns:
      The largest difference of a weight; how many pixels are counted otherwise with the weights
      of each; a line for each fault.
    """
    count, faults = outcome.replicas, []
    difference = max(
        float(np.abs(np.subtract(values, first.weights[name], dtype=np.float64)).max())
        for name, values in outcome.weights.items()
    )
    moved = int(np.abs(outcome.confusion - first.confusion).sum() // 2)
    miscounted = int(np.abs(outcome.confusion_of_first - first.confusion).sum() // 2)
    # Not `>`: a weight that is not a number is a fault too.
    if not difference <= _TOLERANCE:
        faults.append(f"the weights of {count} replicas differ by {difference:.2g}")
    if miscounted:
        faults.append(f"{count} replicas count {miscounted} pixels otherwise with equal weights")
    return difference, moved, faults


def _replica_counts(batch_size: int) -> list[int]:
    """The numbers of replicas to compare."""
    devices = len(tf.config.list_physical_devices("GPU")) or _CPU_REPLICAS
    counts = {2**i for i in range(devices.bit_length())} | {devices}
    fitting = sorted(count for count in counts if count <= devices and batch_size % count == 0)
    if len(fitting) < 2:
        raise UserError(
            f"config.data.batch_size={batch_size} cannot be shared by several of {devices} "
            "devices; use an even one"
        )
    return fitting


def _in_a_process(config: Config, replicas: int, first: Outcome | None) -> Outcome:
    """A process can have only one group of devices that reduce together."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        return executor.submit(_train, config, replicas, first).result()


def _train(config: Config, replicas: int, first: Outcome | None) -> Outcome:
    registry.load_plugins(config.plugins, "config.plugins")  # this process is a new one
    tf.config.experimental.enable_tensor_float_32_execution(False)
    strategy = tf.distribute.MirroredStrategy(distribution.local_devices(replicas))
    run = setup.prepare_run(config, None, Devices(strategy))
    trainable = run.stage.trainable
    batches = distribution.distribute(run.devices, run.batches.train(trainable, 0))
    run.stage.train(iter(batches), 0, _STEPS)
    variables = stages.model_variables(run.model, run.averages)
    variables |= run.stage.checkpoint_variables()
    weights = {name: variable.numpy() for name, variable in variables.items()}
    confusion = _count(run)
    if first is None:
        return Outcome(replicas, weights, confusion, confusion)
    for name, variable in variables.items():
        variable.assign(first.weights[name])
    return Outcome(replicas, weights, confusion, _count(run))


def _count(run: RunSetup) -> np.ndarray:
    step = eval_step.make_eval_step(run.model, run.data.label_map.num_classes, run.devices.strategy)
    dataset = run.batches.validation(run.stage.trainable)
    return eval_step.evaluate(step, distribution.distribute(run.devices, dataset)).confusion
