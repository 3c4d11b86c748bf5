"""The terms of a loss: names and weights, as in 'cross_entropy+0.5*dice'."""

import math

from petseg.errors import UserError

NAMES = (
    *("cross_entropy", "boundary_cross_entropy", "focal"),
    *("dice", "generalised_dice", "tversky", "lovasz_softmax"),
)


def parse_loss(text: str) -> dict[str, float]:
    """The weight of each term, in their order; a term without a number weighs 1.

    Example: 'cross_entropy+0.5*lovasz_softmax'.

    Raises:
      UserError: a term is unknown or stands twice, or a weight is no positive number.
    """
    terms: dict[str, float] = {}
    for term in text.split("+"):
        weight, times, name = term.rpartition("*")
        name = name.strip()
        if name not in NAMES:
            raise _wrong(text, f"'{name}' is none of {', '.join(NAMES)}")
        if name in terms:
            raise _wrong(text, f"{name} stands twice")
        terms[name] = _weight(weight, text) if times else 1.0
    return terms


def _weight(text: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise _wrong(whole, f"'{text.strip()}' is no positive number")
    return value


def _wrong(text: str, why: str) -> UserError:
    return UserError(
        f"config.train.loss={text!r}: {why}; it must be terms with a plus between them, as in "
        "cross_entropy+0.5*dice"
    )
