"""Weights of an encoder from Keras's download or from a file, and why a file does not fit."""

import os
import warnings
import zipfile
from collections import Counter

import h5py
import keras

from petseg.errors import UserError

SETTING = "config.model.encoder_weights"
# How many arrays the published networks have without their tops; to name what a file holds.
ARRAYS = {
    26: "vgg16",
    32: "vgg19",
    318: "resnet50",
    260: "mobilenet_v2",
    359: "efficientnet_v2_b0",
    536: "efficientnet_v2_b3",
    180: "convnext_tiny",
}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PICKLE = b"\x80"
_SAFETENSORS = b"{"  # behind the length of the header that it begins
_KERNEL_SIDES = 4  # of a convolution; a top has dense layers alone
_OLD_SUFFIXES, _NEW_SUFFIX = (".h5", ".hdf5"), ".weights.h5"

Shape = tuple[int, ...]


def load_weights(model: keras.Model, weights: str, title: str) -> None:
    """Loads pretrained weights into a network.

    Args:
      model: The network without its top, layer by layer as in keras.applications.
      weights: 'imagenet', 'none' (nothing is loaded), or a file's path.
      title: What keras.applications calls the network; '' where it has none like it.

    Raises:
      UserError: The weights cannot be downloaded, read or fitted.
    """
    if weights == "imagenet":
        _load_imagenet(model, title)
    elif weights != "none":
        _load_file(model, weights, title)


def _load_imagenet(model: keras.Model, title: str) -> None:
    where = f"{SETTING}=imagenet"
    if not title:
        raise UserError(
            f"{where}: there are none for encoder '{model.name}'; take {SETTING}=none and train "
            "it with config.train.trainable=all, or pass the path of your own"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no size is named
            published = getattr(keras.applications, title)(include_top=False, weights="imagenet")
    except Exception as error:  # Keras raises whatever its downloader met
        raise UserError(
            f"{where}: the download failed ({_one_line(error)}); fetch the {title} 'notop' "
            f"weights file on a connected machine and pass its path as --{SETTING}=PATH; or train "
            "all of a network without, as --config=few_images_from_scratch does"
        ) from error
    try:
        model.set_weights(published.get_weights())
    except ValueError as error:
        raise UserError(
            f"{where} fits only the published {title}: leave out config.model.encoder_width and "
            "config.model.encoder_convs"
        ) from error


def _load_file(model: keras.Model, path: str, title: str) -> None:
    where = f"{SETTING}={path}"
    fits = f"keras.applications.{title} without its top" if title else f"encoder '{model.name}'"
    remedy = f"what fits is a file that save_weights wrote of {fits}"
    if not os.path.isfile(path):
        found = " is a folder" if os.path.isdir(path) else ": no such file, nor imagenet or none"
        raise UserError(f"{where}{found}; {remedy}")
    if kind := _foreign_kind(path):
        raise UserError(f"{where} is {kind}; {remedy}")
    try:
        shapes, is_old = _read_shapes(path)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"{where} is damaged ({_one_line(error)}); {remedy}") from error
    if reason := _misfit(model, shapes):
        raise UserError(f"{where} does not fit {model.name}: {reason}; {remedy}")
    if path.endswith(_NEW_SUFFIX) == is_old or not path.endswith(_OLD_SUFFIXES):
        wanted = _OLD_SUFFIXES[0] if is_old else _NEW_SUFFIX
        raise UserError(f"{where}: by its content its name must end in {wanted}; rename it")
    try:
        model.load_weights(path)
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        raise UserError(f"{where} does not fit {model.name}: {_one_line(error)}") from error


def _foreign_kind(path: str) -> str:
    """What a file is that is no HDF5 file, in words; '' for one that is."""
    with open(path, "rb") as file:
        start, following = file.read(len(_HDF5)), file.read(1)
    if start == _HDF5:
        return ""
    if not start:
        return "an empty file"
    if zipfile.is_zipfile(path):
        return _zip_kind(path)
    if start[:1] == _PICKLE:
        return "a PyTorch or pickle file, which Keras cannot read"
    if following == _SAFETENSORS and int.from_bytes(start, "little") < os.path.getsize(path):
        return "a safetensors file, which Keras cannot read"
    return "not a Keras weights file, or damaged"


def _zip_kind(path: str) -> str:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("data.pkl") for name in names):
        return "a PyTorch file, which Keras cannot read"
    if "model.weights.h5" in names:
        return "a whole Keras model, not its weights alone"
    return "a zip file, not a Keras weights file"


def _read_shapes(path: str) -> tuple[Counter[Shape], bool]:
    """The shapes of a file's weights, and whether it is in Keras's older format.

    Optimizers, metrics and the state of random layers are left out.
    """
    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        is_old = "layer_names" in root.attrs
        shapes: Counter[Shape] = Counter()

        def count(name: str, item: h5py.Dataset | h5py.Group) -> None:
            if isinstance(item, h5py.Dataset) and "seed_generator" not in name:
                shapes[tuple(item.shape)] += 1

        for name in root if is_old else ("layers", "vars"):
            if name != "top_level_model_weights" and name in root:
                root[name].visititems(count)
    return shapes, is_old


def _misfit(model: keras.Model, found: Counter[Shape]) -> str:
    """Why weights of these shapes do not fit a network, in words; '' if they do."""
    expected = Counter(tuple(variable.shape) for variable in model.weights)
    extra, missing = found - expected, expected - found
    if not found:
        return "it holds no weights"
    if not missing and not extra:
        return ""
    if not missing and max(map(len, extra)) < _KERNEL_SIDES:
        return f"it holds more, such as {_largest(extra)}: the network with its top"
    if Counter(map(len, found.elements())) == Counter(map(len, expected.elements())):
        return _misfit_of_width(found, expected)
    of_other = ARRAYS.get(found.total())
    if of_other and of_other != model.name:
        return f"it seems to hold {of_other} (config.model.encoder={of_other})"
    return (
        f"it holds {found.total()} arrays, the network {expected.total()}: another network, or "
        "another config.model.encoder_convs"
    )


def _misfit_of_width(found: Counter[Shape], expected: Counter[Shape]) -> str:
    width, own_width = _stem_width(found), _stem_width(expected)
    if width and own_width and width != own_width:
        return (
            f"its first convolution has {width} channels, not {own_width}: set "
            "config.model.encoder_width by it"
        )
    extra, missing = _largest(found - expected), _largest(expected - found)
    return f"it is of another width: it has {extra} in place of {missing}"


def _stem_width(shapes: Counter[Shape]) -> int:
    """Output channels of the only convolution of three-channel images; 0 if that is unclear."""
    kernels = [
        shape for shape in shapes.elements() if len(shape) == _KERNEL_SIDES and shape[2] == 3
    ]
    return kernels[0][3] if len(kernels) == 1 else 0


def _largest(shapes: Counter[Shape]) -> Shape:
    return max(shapes, key=lambda shape: (len(shape), shape))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
