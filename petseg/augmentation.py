"""How training images vary: settings alone."""

import dataclasses

from petseg.setting import Section, setting


@dataclasses.dataclass
class Augmentation(Section):
    """How a training image and its mask vary together; 0 switches a change off.

    Attributes:
      flip: Mirror left and right with probability 1/2.
      min_crop_area: Smallest share of the image's area that a random window covers; 1.0 takes
        whole images.
      max_crop_aspect: The window's width over height is that of the image (with
        data.keep_aspect that of data.image_size) times a factor that is drawn between
        1/max_crop_aspect and max_crop_aspect.
      max_rotation_degrees: Rotation by up to this much either way.
      max_shear_degrees: Shear by up to this much either way.
      max_zoom: Scaling by a factor of up to 1 + max_zoom either way.
      max_shift: Shift by up to this share of the height and of the width.
      brightness: Colours are multiplied by 1 - brightness to 1 + brightness.
      contrast: The distance from mid-grey is multiplied likewise.
      saturation: The distance from the grey of the same luma is multiplied likewise.
      max_hue_degrees: Hues are rotated by up to this much either way.
      max_blur_sigma_px: Gaussian blur; its standard deviation is uniform from 0.
      cutout_area: A square of up to this share of the image is removed.
      cutmix_probability: Probability that the examples of a batch get a rectangle of one
        another.
    """

    flip: bool = setting(True)
    min_crop_area: float = setting(1.0, at_least=0.01, at_most=1)
    max_crop_aspect: float = setting(4 / 3, at_least=1)
    max_rotation_degrees: float = setting(0.0, at_least=0, at_most=180)
    max_shear_degrees: float = setting(0.0, at_least=0, at_most=60)
    max_zoom: float = setting(0.0, at_least=0, at_most=10)
    max_shift: float = setting(0.0, at_least=0, at_most=1)
    brightness: float = setting(0.0, at_least=0, at_most=1)
    contrast: float = setting(0.0, at_least=0, at_most=1)
    saturation: float = setting(0.0, at_least=0, at_most=1)
    max_hue_degrees: float = setting(0.0, at_least=0, at_most=180)
    max_blur_sigma_px: float = setting(0.0, at_least=0, at_most=100)
    cutout_area: float = setting(0.0, at_least=0, at_most=1)
    cutmix_probability: float = setting(0.0, at_least=0, at_most=1)

    @property
    def uses_whole_images(self) -> bool:
        """Whether no windows are drawn."""
        return self.min_crop_area >= 1
