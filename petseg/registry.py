"""Everything that a setting or a flag chooses by name.

A built-in is listed as 'module:attribute' and is imported when it is first asked for, so
listing names loads nothing. Other packages add their own with one line:

    from petseg.registry import DECODERS
    DECODERS.register("mine", Decoder(levels=("P5", "P3"), build=build_mine))

The module that holds this line is named by the setting `plugins` (for petseg-convert by the
flag --plugins), so that every command and every later run imports it.
"""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from petseg.errors import UserError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Named items of one kind; see the class that each registry below names."""

    def __init__(self, kind: str, builtins: Mapping[str, str]):
        """Starts with built-ins.

        Args:
          kind: what an item is, in messages.
          builtins: name -> 'module:attribute'.
        """
        self.kind = kind
        self._builtins = dict(builtins)
        self._items: dict[str, T] = {}

    def register(self, name: str, item: T, *, replace: bool = False) -> None:
        """Adds an item.

        Args:
          name: How settings and flags name it.
          item: The item.
          replace: Replace an item of that name, as when a notebook's cell runs again.

        Raises:
          ValueError: Another item has that name.
        """
        if name in self and self._items.get(name) is not item and not replace:
            raise ValueError(f"there is already a {self.kind} called '{name}'")
        self._items[name] = item

    def get(self, name: str) -> T:
        """The item of that name; raises UserError if there is none."""
        if name not in self._items:
            if name not in self._builtins:
                hint = did_you_mean(name, self)
                raise UserError(f"{self.kind} '{name}' is not one of {', '.join(self)}{hint}")
            module, _, attribute = self._builtins[name].partition(":")
            self._items[name] = getattr(importlib.import_module(module), attribute)
        return self._items[name]

    def items(self) -> Iterator[tuple[str, T]]:
        """Every name with its item; imports all built-ins."""
        return ((name, self.get(name)) for name in self)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._builtins, *self._items]))

    def __contains__(self, name: object) -> bool:
        return name in self._builtins or name in self._items


def load_plugins(modules: Iterable[str], setting: str) -> None:
    """Imports modules that register items.

    Args:
      modules: their names, as Python imports them.
      setting: the flag or field that names them, for the message.

    Raises:
      UserError: one cannot be imported.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        # A plugin is its user's code: whatever it raises is about the plugin.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{setting}: cannot import '{name}': {reason}") from error


# models.encoders.base.EncoderSpec
ENCODERS: Registry = Registry(
    "encoder",
    {
        "vgg16": "petseg.models.encoders.vgg:VGG16",
        "vgg19": "petseg.models.encoders.vgg:VGG19",
        "resnet50": "petseg.models.encoders.resnet:RESNET50",
        "mobilenet_v2": "petseg.models.encoders.mobilenet_v2:MOBILENET_V2",
        "efficientnet_v2_b0": "petseg.models.encoders.efficientnet_v2:EFFICIENTNET_V2_B0",
        "efficientnet_v2_b3": "petseg.models.encoders.efficientnet_v2:EFFICIENTNET_V2_B3",
        "convnext_tiny": "petseg.models.encoders.convnext:CONVNEXT_TINY",
        "plain": "petseg.models.encoders.plain:PLAIN",
    },
)
# models.decoders.base.Decoder
DECODERS: Registry = Registry(
    "decoder",
    {
        "fcn32s": "petseg.models.decoders.fcn:FCN32S",
        "fcn16s": "petseg.models.decoders.fcn:FCN16S",
        "fcn8s": "petseg.models.decoders.fcn:FCN8S",
        "fcn2s": "petseg.models.decoders.fcn:FCN2S",
        "fpn": "petseg.models.decoders.fpn:FPN",
        "unet": "petseg.models.decoders.unet:UNET",
        "segnet": "petseg.models.decoders.segnet:SEGNET",
        "pspnet": "petseg.models.decoders.pspnet:PSPNET",
        "deeplab_v3_plus": "petseg.models.decoders.deeplab_v3_plus:DEEPLAB_V3_PLUS",
    },
)
# losses.base.Loss
LOSSES: Registry = Registry(
    "loss",
    {
        "cross_entropy": "petseg.losses.cross_entropy:CROSS_ENTROPY",
        "boundary_cross_entropy": "petseg.losses.cross_entropy:BOUNDARY_CROSS_ENTROPY",
        "focal": "petseg.losses.focal:FOCAL",
        "distillation": "petseg.losses.distillation:DISTILLATION",
        "presence": "petseg.losses.presence:PRESENCE",
        "image_class": "petseg.losses.detection:IMAGE_CLASS",
        "box": "petseg.losses.detection:BOX",
        "dice": "petseg.losses.overlap:DICE",
        "generalised_dice": "petseg.losses.overlap:GENERALISED_DICE",
        "tversky": "petseg.losses.overlap:TVERSKY",
        "lovasz_softmax": "petseg.losses.lovasz_softmax:LOVASZ_SOFTMAX",
    },
)
# metrics.base.Metric or ImageMetric
METRICS: Registry = Registry(
    "metric",
    {
        "mean_iou": "petseg.metrics.confusion:MEAN_IOU",
        "pixel_accuracy": "petseg.metrics.confusion:PIXEL_ACCURACY",
        "frequency_weighted_iou": "petseg.metrics.confusion:FREQUENCY_WEIGHTED_IOU",
        "image_mean_iou": "petseg.metrics.image_metrics:IMAGE_MEAN_IOU",
        "image_dice": "petseg.metrics.image_metrics:IMAGE_DICE",
        "iou": "petseg.metrics.confusion:IOU",
        "dice": "petseg.metrics.confusion:DICE",
        "precision": "petseg.metrics.confusion:PRECISION",
        "recall": "petseg.metrics.confusion:RECALL",
    },
)
# A label map as text, for data sets with the raw labels of its source; data.label_map
LABEL_MAPS: Registry = Registry(
    "label map",
    {
        "three_class": "petseg.conversion.sources.oxford_iiit_pet:THREE_CLASS",
        "border_ignored": "petseg.conversion.sources.oxford_iiit_pet:BORDER_IGNORED",
        "border_is_pet": "petseg.conversion.sources.oxford_iiit_pet:BORDER_IS_PET",
        "cityscapes_19": "petseg.conversion.sources.cityscapes:CITYSCAPES_19",
    },
)
# conversion.sources.base.Source
SOURCES: Registry = Registry(
    "source",
    {
        "oxford_iiit_pet": "petseg.conversion.sources.oxford_iiit_pet:OXFORD_IIIT_PET",
        "folders": "petseg.conversion.sources.folders:FOLDERS",
        "tfds": "petseg.conversion.sources.tfds_dataset:TFDS",
        "coco": "petseg.conversion.sources.coco:COCO",
        "labelme": "petseg.conversion.sources.labelme:LABELME",
        "via": "petseg.conversion.sources.via:VIA",
        "yolo": "petseg.conversion.sources.yolo:YOLO",
        "voc": "petseg.conversion.sources.voc:VOC",
        "cityscapes": "petseg.conversion.sources.cityscapes:CITYSCAPES",
        "tfrecord": "petseg.conversion.sources.tfrecord_files:TFRECORD",
    },
)
