"""How training images vary: settings alone."""

import dataclasses


@dataclasses.dataclass
class Augmentation:
    """How a training image and its mask vary together; 0 leaves a change out.

    Attributes:
      flip: mirror left and right with probability 1/2.
      min_crop_area: the smallest share of the image's area that a random window
        covers; 1.0 takes whole images.
      max_crop_aspect: the window's width over height is drawn between 1/max_crop_aspect
        and max_crop_aspect: relative to the image's, or in pixels with data.keep_aspect.
      max_rotation_degrees: turned by up to this much either way.
      max_shear_degrees: slanted by up to this much either way.
      max_zoom: enlarged or reduced by a factor of up to 1 + max_zoom.
      max_shift: moved by up to this share of the side, up or down and left or right.
      brightness: colours are scaled by 1 - brightness to 1 + brightness.
      contrast: distance from mid-grey, scaled likewise.
      saturation: distance from the grey of the same luma, scaled likewise.
      max_hue_degrees: hues are turned by up to this much either way.
      max_blur_sigma_px: Gaussian blur; its standard deviation is uniform from 0.
      cutout_area: a square of up to this share of the image is taken out.
      cutmix_probability: how often the examples of a batch get a rectangle of one another.
    """

    flip: bool = True
    min_crop_area: float = 1.0
    max_crop_aspect: float = 4 / 3
    max_rotation_degrees: float = 0.0
    max_shear_degrees: float = 0.0
    max_zoom: float = 0.0
    max_shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    max_hue_degrees: float = 0.0
    max_blur_sigma_px: float = 0.0
    cutout_area: float = 0.0
    cutmix_probability: float = 0.0

    @property
    def whole_images(self) -> bool:
        """Whether no windows are drawn."""
        return self.min_crop_area >= 1
