"""Test-time augmentation (TTA): several views of an image, whose predictions are averaged."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TtaOptions:
    """The views of an image that are predicted and averaged; by default the image alone.

    Attributes:
      flip: also predict its mirror image.
      scales: predict it at these multiples of the model's size, rounded to multiples of the
        model's stride.
      sliding_windows: predict an image that is larger than the model's size in windows of that
        size, overlapping by half, at the image's full resolution (times the scales).
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    sliding_windows: bool = False

    @property
    def num_views(self) -> int:
        """The number of views of an image."""
        return len(self.scales) * (2 if self.flip else 1)
