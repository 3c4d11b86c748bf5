"""The terms of a training loss: names and weights, as in 'cross_entropy+0.5*dice'.

Parsing loads no TensorFlow: names come from the registry, which imports a loss when it is
chosen.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from petseg.errors import UserError
from petseg.registry import LOSSES

if TYPE_CHECKING:
    from petseg.losses.base import Loss


def parse_loss(text: str) -> dict[str, float]:
    """Parses a sum of losses.

    Example: 'cross_entropy+0.5*lovasz_softmax'.

    Returns:
      Name -> weight, in the order of the text; a term without a number weighs 1.

    Raises:
      UserError: a term is unknown or duplicated, or a weight is not a positive number.
    """
    terms: dict[str, float] = {}
    for term in text.split("+"):
        weight, times, name = term.rpartition("*")
        name = name.strip()
        if name not in LOSSES:
            raise _error(text, f"{name!r} is not one of {', '.join(LOSSES)}")
        if name in terms:
            raise _error(text, f"{name} is duplicated")
        terms[name] = _parse_weight(weight, text) if times else 1.0
    return terms


def choose_losses(
    names: Iterable[str],
    class_weights: Sequence[float] = (),
    label_smoothing: float = 0.0,
    temperature: float = 1.0,
) -> list["Loss"]:
    """Looks losses up and binds the settings that some of them take.

    Args:
      names: of registered losses.
      class_weights: one weight per class, empty for 1; for the losses that take them.
      label_smoothing: for the same losses, from 0 to below 1.
      temperature: for the losses that take a teacher's logits, above 0.

    Returns:
      The losses in the order of the names; call each one's `sum`.
    """
    chosen = []
    for name in names:
        loss = LOSSES.get(name)
        settings = {}
        if loss.takes_class_weights:
            settings = {"class_weights": tuple(class_weights), "label_smoothing": label_smoothing}
        if loss.takes_teacher:
            settings["temperature"] = temperature
        if settings:
            bound = functools.partial(loss.function, **settings)
            loss = dataclasses.replace(loss, function=bound)
        chosen.append(loss)
    return chosen


def taking_teacher(names: Iterable[str]) -> list[str]:
    """Those of some losses that need a teacher."""
    return [name for name in names if LOSSES.get(name).takes_teacher]


def reading(what: str, names: Iterable[str]) -> list[str]:
    """Those of some losses that read something of a model's outputs; see base.Loss.reads."""
    return [name for name in names if LOSSES.get(name).reads == what]


def are_faster_fused(names: Iterable[str]) -> bool:
    """Whether compiling these losses together with XLA makes them faster on CPUs."""
    return all(LOSSES.get(name).is_faster_fused for name in names)


def _parse_weight(text: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise _error(whole, f"{text.strip()!r} is not a positive number")
    return value


def _error(text: str, reason: str) -> UserError:
    return UserError(
        f"config.train.loss={text!r}: {reason}; join terms with a plus, as in "
        "cross_entropy+0.5*dice"
    )
