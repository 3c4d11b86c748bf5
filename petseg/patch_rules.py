"""What settings must fulfil where training is on patches."""

from typing import TYPE_CHECKING

from petseg.augmentation import Augmentation
from petseg.errors import UserError
from petseg.image_size import sides_of

if TYPE_CHECKING:
    from petseg.config import Config

ENABLED = "config.patches.enabled=True"
# What would move an object within its patch, or mix patches.
_NOT_WITH_PATCHES = ("min_crop_area", "max_zoom", "max_shift", "cutmix_probability")


def validate_patches(config: "Config") -> None:
    """Checks the settings that patches need, and those that do not fit them.

    Raises:
      UserError: Names the first one that is wrong.
    """
    patches, data = config.patches, config.data
    if not patches.enabled:
        return
    if not config.model.presence:
        raise UserError(
            f"{ENABLED}: objectness is what the presence head gives, which the model does not "
            f"have; set config.model.presence=True and config.train.loss={config.train.loss}"
            "+0.5*presence"
        )
    height, width = sides_of(data.image_size)
    _require(height == width, "config.data.image_size", data.image_size, "be one side: of squares")
    _require(not data.keep_aspect, "config.data.keep_aspect", True, "be False: patches are squares")
    cached = data.feature_cache_dir
    _require(
        not cached, "config.data.feature_cache_dir", cached, "be '': each epoch has other patches"
    )
    plain = Augmentation()
    for name in _NOT_WITH_PATCHES:
        value, default = getattr(config.augment, name), getattr(plain, name)
        _require(
            value == default, f"config.augment.{name}", value,
            f"be {default}: patches have their own jitter, config.patches.max_shift and "
            "config.patches.max_octaves",
        )  # fmt: skip
    for least, most in (("other_min_shift", "max_shift"), ("other_min_octaves", "max_octaves")):
        value, jitter = getattr(patches, least), getattr(patches, most)
        _require(
            value > jitter, f"config.patches.{least}", value,
            f"be above config.patches.{most}={jitter:.4g}: a patch would be both",
        )  # fmt: skip


def _require(holds: bool, name: str, value: object, must: str) -> None:
    if not holds:
        raise UserError(f"{name}={value!r} must {must}, with {ENABLED}")
