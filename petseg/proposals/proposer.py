"""Proposals of one picture: objectness of windows at several scales, and the masks of the best.

Source: Pinheiro, Collobert and Dollar 2015, "Learning to Segment Object Candidates" (DeepMask).
"""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from petseg.errors import UserError
from petseg.image_size import sides_of
from petseg.input_pipeline.patches import OUTSIDE_GREY, object_class
from petseg.models.encoders.base import IMAGE
from petseg.models.segmentation_model import SegmentationModel
from petseg.proposals.pyramid import PyramidLevel, PyramidOptions, plan_levels
from petseg.proposals.suppression import suppress
from petseg.run_dir.trained_model import TrainedModel

_OBJECT_FROM = 0.5  # probability of a pixel


@dataclasses.dataclass(frozen=True)
class ProposerOptions:
    """How proposals are made.

    Attributes:
      pyramid: Which windows are looked at.
      object_class: Class id of objects.
      count: Of so many windows, those with the highest scores, a mask is computed: most proposals
        of a picture.
      max_iou: Most that the box of a proposal may overlap that of a better one.
      batch_size: Windows that are computed together.
    """

    pyramid: PyramidOptions
    object_class: int
    count: int = 100
    max_iou: float = 0.8
    batch_size: int = 32


@dataclasses.dataclass(frozen=True)
class Proposals:
    """What is proposed of a picture, the best first.

    Attributes:
      boxes: int64 [n, 4]; left, top, width and height of each mask, in pixels of the picture.
      scores: float32 [n], objectness of the windows, probabilities.
      masks: bool [n, height, width], none of them empty.
    """

    boxes: np.ndarray
    scores: np.ndarray
    masks: np.ndarray


class Proposer:
    """Proposes objects, and counts how long that takes.

    Attributes:
      pictures: Number of pictures so far.
      windows: Windows whose objectness was computed.
      masks: Windows whose mask was computed.
      seconds: Time that it all took.
      forward_seconds: The part of it in which the model computed.
    """

    def __init__(self, model: SegmentationModel, options: ProposerOptions):
        """Compiles a model that was trained on patches; see ProposerOptions."""
        self.options = options
        self.pictures = self.windows = self.masks = 0
        self.seconds = self.forward_seconds = 0.0
        side, chosen = options.pyramid.window_px, options.object_class
        signature = [tf.TensorSpec([None, side, side, 3], tf.uint8)]

        @tf.function(autograph=False, input_signature=signature)
        def score(images: tf.Tensor) -> tf.Tensor:
            deepest, *_ = model.level_stages
            (features,) = model.features({IMAGE: images}, [deepest])
            return tf.sigmoid(model.presence(features, training=False)[:, chosen])

        @tf.function(autograph=False, input_signature=signature)
        def segment(images: tf.Tensor) -> tf.Tensor:
            return tf.nn.softmax(model.outputs({IMAGE: images}).pixels)[..., chosen]

        self._score, self._segment = score, segment

    def propose(self, image: np.ndarray) -> Proposals:
        """Proposes objects of a picture: uint8 [height, width, 3], RGB."""
        started, options = time.monotonic(), self.options
        levels = plan_levels(*image.shape[:2], options.pyramid)
        padded = [self._resized(image, level) for level in levels]
        # Of every window: its level, and its top and left there.
        at = np.concatenate(
            [
                np.column_stack([np.full(len(level.corners), index), level.corners])
                for index, level in enumerate(levels)
            ]
        )
        scores = self._forward(self._score, padded, at)
        best = np.argsort(-scores, kind="stable")[: options.count]
        probabilities = self._forward(self._segment, padded, at[best])
        masks = [
            paste(one, levels[level], (top, left), image.shape[:2]) >= _OBJECT_FROM
            for one, (level, top, left) in zip(probabilities, at[best], strict=True)
        ]
        found = [index for index, mask in enumerate(masks) if mask.any()]
        boxes = np.array([tight_box(masks[i]) for i in found], np.int64).reshape(-1, 4)
        kept = suppress(boxes, scores[best[found]], options.max_iou, options.count)
        proposals = Proposals(
            boxes[kept],
            scores[best[found]][kept],
            np.array([masks[found[i]] for i in kept], bool).reshape(-1, *image.shape[:2]),
        )
        self.pictures += 1
        self.windows += len(at)
        self.masks += len(best)
        self.seconds += time.monotonic() - started
        return proposals

    def figures(self) -> dict[str, float]:
        """Per picture: windows, masks and seconds; and the share of the time in the model."""
        pictures = max(self.pictures, 1)
        return {
            "windows": self.windows / pictures,
            "masks": self.masks / pictures,
            "seconds": self.seconds / pictures,
            "forward_share": self.forward_seconds / self.seconds if self.seconds else 0.0,
        }

    def line(self) -> str:
        """The same for people."""
        of = self.figures()
        return (
            f"a picture: {of['windows']:,.0f} windows and {of['masks']:,.0f} masks in "
            f"{of['seconds']:.2f} s, {of['forward_share']:.0%} of it in the model"
        )

    def _resized(self, image: np.ndarray, level: PyramidLevel) -> np.ndarray:
        """The picture at a scale, with as much grey around it as windows stick out."""
        resized = tf.image.resize(image, level.sides, antialias=True)
        pixels = tf.saturate_cast(tf.round(resized), tf.uint8).numpy()
        side = self.options.pyramid.window_px
        return np.pad(pixels, [(side, side)] * 2 + [(0, 0)], constant_values=OUTSIDE_GREY)

    def _forward(
        self,
        compute: Callable[[tf.Tensor], tf.Tensor],
        padded: list[np.ndarray],
        at: np.ndarray,
    ) -> np.ndarray:
        """What the model gives for windows, in batches.

        Args:
          compute: uint8 [windows, side, side, 3] -> a tensor [windows, ...].
          padded: From _resized, of each level.
          at: int64 [windows, 3]; level, top and left.
        """
        side, given = self.options.pyramid.window_px, []
        for start in range(0, len(at), self.options.batch_size):
            images = np.stack(
                [
                    padded[level][top + side : top + 2 * side, left + side : left + 2 * side]
                    for level, top, left in at[start : start + self.options.batch_size]
                ]
            )
            started = time.monotonic()
            given.append(compute(tf.constant(images)).numpy())
            self.forward_seconds += time.monotonic() - started
        return np.concatenate(given)


def make_proposer(trained: TrainedModel, scales: int, count: int, max_iou: float) -> Proposer:
    """Makes a proposer of a run's model.

    Args:
      trained: The run.
      scales: See PyramidOptions.
      count: See ProposerOptions.
      max_iou: See ProposerOptions.

    Raises:
      UserError: The run was not trained on patches, so it knows no objectness.
    """
    patches = trained.config.patches
    if not patches.enabled or not trained.model.presence:
        raise UserError(
            "proposals need a run with objectness, and this one was not trained on patches; train "
            "one with --config.patches.enabled=True, as --config=oxford_pets_proposals does"
        )
    side, _ = sides_of(trained.config.data.image_size)
    # Jitter made the model tolerant of half a stride.
    stride_share = 2 * patches.max_shift or 1 / side
    pyramid = PyramidOptions(side, patches.object_share, stride_share, scales)
    options = ProposerOptions(pyramid, object_class(trained.label_map), count, max_iou)
    return Proposer(trained.model, options)


def paste(
    window: np.ndarray, level: PyramidLevel, corner: tuple[int, int], sides: tuple[int, int]
) -> np.ndarray:
    """Brings the values of a window to a picture's own size, bilinear; 0 outside of the window.

    Args:
      window: float32 [side, side].
      level: Of the window.
      corner: Its top and left there.
      sides: Height and width of the picture, in pixels.

    Returns:
      float32 [height, width].
    """
    pasted = np.zeros(sides, np.float32)
    (rows, from_rows), (columns, from_columns) = (
        _weights(side, resized / side, start, len(window))
        for side, resized, start in zip(sides, level.sides, corner, strict=True)
    )
    pasted[rows, columns] = from_rows @ window @ from_columns.T
    return pasted


def _weights(side_px: int, scale: float, start: int, window_px: int) -> tuple[slice, np.ndarray]:
    """Which pixels of a picture's side lie in a window, and what the window's add to each.

    Returns:
      The pixels; float32 [pixels, window_px], rows sum to 1.
    """
    at = (np.arange(side_px) + 0.5) * scale - start  # from 0 to window_px inside
    inside = slice(*np.searchsorted(at, [0, window_px]))
    centre = np.clip(at[inside] - 0.5, 0, window_px - 1)
    distance = np.abs(centre[:, None] - np.arange(window_px))
    return inside, np.maximum(1 - distance, 0).astype(np.float32)


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, width and height of the pixels of a mask, bool [height, width]; not empty."""
    left, right = np.flatnonzero(mask.any(0))[[0, -1]]
    top, bottom = np.flatnonzero(mask.any(1))[[0, -1]]
    return left, top, right - left + 1, bottom - top + 1
