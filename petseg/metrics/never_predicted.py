"""Classes that a model never predicts: a mean over classes hides them."""

from collections.abc import Sequence

import numpy as np


def never_predicted(confusion: np.ndarray, names: Sequence[str]) -> list[str]:
    """Names of the classes that the truth has and no prediction.

    Args:
      confusion: Integer [classes, classes], rows the truth.
      names: Of the classes.
    """
    lost = (confusion.sum(1) > 0) & (confusion.sum(0) == 0)
    return [name for name, is_lost in zip(names, lost, strict=True) if is_lost]


def warning(lost: Sequence[str], has_class_weights: bool = False) -> str:
    """A line for the user about classes that are never predicted.

    Args:
      lost: Their names.
      has_class_weights: Whether the run gives its classes weights of their own.
    """
    subject = f"class {lost[0]} is" if len(lost) == 1 else f"classes {', '.join(lost)} are"
    weight = ", or give rare classes more weight (--config.train.class_weights=balanced)"
    return f"warning: {subject} never predicted; train longer{'' if has_class_weights else weight}"
