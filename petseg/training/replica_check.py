"""Whether this machine's devices, however many share the work, end with the same weights."""

import concurrent.futures
import dataclasses
import multiprocessing
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from petseg import config as config_lib
from petseg.config import Config
from petseg.errors import FaultFound, UserError
from petseg.inference.eval_step import evaluate, make_eval_step
from petseg.training import data_set, distribution, learner, opening
from petseg.training.distribution import Host
from petseg.training.opening import Opened, Place

_STEPS = 20
_TOLERANCE = 1e-5
_CPU_REPLICAS = 4


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What some replicas ended with.

    Attributes:
      replicas: their number.
      weights: of everything that a checkpoint would hold, by name.
      confusion: counts over the validation split, with these weights.
      confusion_of_first: the same with the weights of the first outcome.
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
      UserError: a setting or the data set is wrong.
      FaultFound: weights differ by more than 1e-5, or equal weights count differently.
    """
    config_lib.validate(config)
    config = config_lib.spell_out(config)
    config.devices.precision = "float32"
    counts = _counts(config.data.batch_size)
    yield f"{'replicas':<10}{'largest difference of a weight':>32}{'pixels counted otherwise':>28}"
    first = _in_a_process(config, 1, None)
    faults = []
    for count in counts[1:]:
        outcome = _in_a_process(config, count, first)
        difference, moved, found = compare(outcome, first)
        yield f"{count:<10}{difference:>32.2g}{moved:>28,}"
        faults += found
    if faults:
        raise FaultFound("; ".join(faults))
    yield f"{_STEPS} steps; the same to {_TOLERANCE:g}; equal weights give equal counts"


def compare(outcome: Outcome, first: Outcome) -> tuple[float, int, list[str]]:
    """Compares what some replicas ended with and what one did.

    Returns:
      The largest difference of a weight; how many pixels their own weights count otherwise;
      a line for each fault.
    """
    count, faults = outcome.replicas, []
    difference = max(
        float(np.abs(np.subtract(values, first.weights[name], dtype=np.float64)).max())
        for name, values in outcome.weights.items()
    )
    moved = int(np.abs(outcome.confusion - first.confusion).sum() // 2)
    miscounted = int(np.abs(outcome.confusion_of_first - first.confusion).sum() // 2)
    # Not `>`: a weight that is no number is a fault too.
    if not difference <= _TOLERANCE:
        faults.append(f"the weights of {count} replicas differ by {difference:.2g}")
    if miscounted:
        faults.append(f"{count} replicas count {miscounted} pixels otherwise, weights equal")
    return difference, moved, faults


def _counts(batch_size: int) -> list[int]:
    """How many replicas to compare."""
    devices = len(tf.config.list_physical_devices("GPU")) or _CPU_REPLICAS
    counts = {2**i for i in range(devices.bit_length())} | {devices}
    found = sorted(count for count in counts if count <= devices and batch_size % count == 0)
    if len(found) < 2:
        raise UserError(
            f"config.data.batch_size={batch_size} cannot be shared by several of {devices} "
            "devices; take an even one"
        )
    return found


def _in_a_process(config: Config, replicas: int, first: Outcome | None) -> Outcome:
    """A process can have only one group of devices that reduce together."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as executor:
        return executor.submit(_train, config, replicas, first).result()


def _train(config: Config, replicas: int, first: Outcome | None) -> Outcome:
    tf.config.experimental.enable_tensor_float_32_execution(False)
    strategy = tf.distribute.MirroredStrategy(distribution.local_devices(replicas))
    place = Place(strategy, Host(0, 1), distribution.make_agree(strategy, 1))
    opened = opening.open_run(config, None, place)
    current = opened.learner
    known = learner.known_blocks(config, opened.model, current.span)
    dataset = data_set.training_batches(config, opened.data, 0, place.host, known)
    iterator = iter(data_set.distribute(strategy, dataset))
    zero = tf.constant(0, tf.int64)
    current.train_steps(iterator, zero, zero, tf.constant(_STEPS), tf.constant(1.0))
    variables = learner.model_variables(opened.model, opened.averages)
    variables |= learner.stage_variables(current)
    weights = {name: variable.numpy() for name, variable in variables.items()}
    confusion = _count(opened)
    if first is None:
        return Outcome(replicas, weights, confusion, confusion)
    for name, variable in variables.items():
        variable.assign(first.weights[name])
    return Outcome(replicas, weights, confusion, _count(opened))


def _count(opened: Opened) -> np.ndarray:
    strategy, config = opened.place.strategy, opened.config
    eval_step = make_eval_step(opened.model, opened.data.label_map.num_classes, strategy)
    known = learner.known_blocks(config, opened.model, opened.learner.span)
    dataset = data_set.validation_batches(config, opened.data, opened.place.host, known)
    num_batches = -(-opened.data.validation.records // config.data.batch_size)
    distributed = data_set.distribute(strategy, dataset)
    return evaluate(eval_step, distributed, num_batches).confusion
