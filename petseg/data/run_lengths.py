"""Run lengths as competitions take them: 'start length start length ...'."""

import numpy as np


def encode(mask: np.ndarray) -> str:
    """Encodes the pixels that are True as runs, column by column, each from top to bottom.

    Pixels are numbered from 1, down the first column and then down the next; a run may go on
    from the end of a column to the top of the next. This is what Kaggle's competitions ask
    for. COCO's run lengths, which begin with those outside, are read by conversion.rle.

    Args:
      mask: bool [height, width].

    Returns:
      Start and length of each run, in ascending order, separated by spaces; '' if no pixel is
      True.
    """
    edges = np.flatnonzero(np.diff(mask.T.ravel(), prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    return " ".join(map(str, np.stack([starts + 1, ends - starts], axis=1).ravel().tolist()))
