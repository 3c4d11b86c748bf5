"""The formats that a model is exported to: how each is written, and read back to be checked."""

import dataclasses
import importlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from petseg import standard_error
from petseg.errors import UserError
from petseg.exporting.serving import ServingModel

Segment = Callable[[np.ndarray], np.ndarray]

_ONNX_OPSET = 18


@dataclasses.dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
      file: the name of its file; '' if it is a folder.
      write: ServingModel, a path to write, uint8 [images, size, size, 3] of training ->
        None.
      load: the path -> a function: uint8 [images, size, size, 3] -> uint8 [images, size,
        size].
      agreement: the share of pixels on which it must agree with the trained model.
      packages: what must be installed, beside petseg itself.
      extra: of petseg, that brings them.
      takes: its input, in words.
      gives: its output, in words.
    """

    file: str
    write: Callable[[ServingModel, Path, np.ndarray], None]
    load: Callable[[Path], Segment]
    agreement: float
    packages: tuple[str, ...]
    extra: str
    takes: str
    gives: str

    def check_installed(self) -> None:
        """Raises UserError if a package is missing."""
        for package in self.packages:
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise UserError(
                    f"--format needs {package}: pip install 'petseg[{self.extra}]'"
                ) from error


def _write_saved_model(serving: ServingModel, path: Path, _: np.ndarray) -> None:
    tf.saved_model.save(serving, str(path), signatures=serving.signatures())


def _load_saved_model(path: Path) -> Segment:
    loaded = tf.saved_model.load(str(path))

    def segment(images: np.ndarray) -> np.ndarray:
        # Named here, so that what was loaded stays.
        served = loaded.signatures["images"]
        return served(images=tf.constant(images))["class_ids"].numpy()

    return segment


def _write_keras(serving: ServingModel, path: Path, _: np.ndarray) -> None:
    serving.model.save(str(path))


def _load_keras(path: Path) -> Segment:
    model = keras.saving.load_model(str(path))

    @tf.function
    def segment(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.argmax(model(images, training=False), axis=-1), tf.uint8)

    return lambda images: segment(tf.constant(images)).numpy()


def _write_litert(serving: ServingModel, path: Path, _: np.ndarray) -> None:
    path.write_bytes(_convert_to_litert(serving, tf.uint8, lambda converter: None))


def _write_litert_int8(serving: ServingModel, path: Path, images: np.ndarray) -> None:
    # One that holds black and white: the scale of pixels is then 1 exactly.
    examples = images.copy()
    examples[0, 0, 0], examples[0, -1, -1] = 0, 255

    def representative() -> Iterator[list[np.ndarray]]:
        for image in examples:
            yield [image[None].astype(np.float32)]

    def settings(converter: tf.lite.TFLiteConverter) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8

    path.write_bytes(_convert_to_litert(serving, tf.float32, settings))


def _convert_to_litert(
    serving: ServingModel,
    dtype: tf.DType,
    settings: Callable[[tf.lite.TFLiteConverter], None],
) -> bytes:
    """One image in, one mask out; `dtype` is that of the image while it is converted."""
    model, size = serving.model, serving.model.input_shape[1]

    def segment(images: tf.Tensor) -> dict[str, tf.Tensor]:
        class_ids = tf.argmax(model(images), axis=-1, output_type=tf.int32)
        return {"class_ids": tf.cast(class_ids, tf.uint8)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = tf.TensorSpec([1, size, size, 3], dtype, name="images")
    archive.add_endpoint("serve", segment, input_signature=[spec])
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        settings(converter)
        return converter.convert()


def _load_litert(path: Path) -> Segment:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()
    if given["dtype"] is not np.uint8 or given["quantization"] not in ((0.0, 0), (1.0, 0)):
        raise ValueError(f"{path} takes no plain pixels but {given['quantization']}")

    def segment(images: np.ndarray) -> np.ndarray:
        masks = []
        for image in images:
            interpreter.set_tensor(given["index"], image[None])
            interpreter.invoke()
            masks.append(interpreter.get_tensor(found["index"])[0])
        return np.stack(masks)

    return segment


def _write_onnx(serving: ServingModel, path: Path, _: np.ndarray) -> None:
    import tf2onnx

    size = serving.model.input_shape[1]
    spec = (tf.TensorSpec([None, size, size, 3], tf.uint8, name="images"),)

    def segment(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return serving.serve_images(images)

    tf2onnx.convert.from_function(
        tf.function(segment, input_signature=spec),
        input_signature=spec,
        opset=_ONNX_OPSET,
        output_path=str(path),
    )


def _load_onnx(path: Path) -> Segment:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run(["class_ids"], {"images": images})[0]


_PIXELS = "images: RGB uint8 [batch, size, size, 3]"
_MASKS = "class_ids: uint8 [batch, size, size]"
_LITERT = {"packages": ("ai_edge_litert",), "extra": "litert"}
# Compiled apart, two float models may round a logit differently: not a mask, but a rare pixel.
_FLOAT_AGREEMENT, _INT8_AGREEMENT = 0.9999, 0.97

FORMATS = {
    "saved_model": Format(
        "", _write_saved_model, _load_saved_model, _FLOAT_AGREEMENT, (), "",
        f"serving_default: encoded: JPEG, PNG, GIF or BMP bytes [batch]; images: {_PIXELS}",
        f"{_MASKS}; serving_default also valid: bool [batch]",
    ),
    "keras": Format(
        "model.keras", _write_keras, _load_keras, _FLOAT_AGREEMENT, (), "",
        "RGB uint8 [batch, size, size, 3]", "logits float32 [batch, size, size, classes]",
    ),
    "litert": Format(
        "model.tflite", _write_litert, _load_litert, _FLOAT_AGREEMENT, **_LITERT,
        takes="images: RGB uint8 [1, size, size, 3]", gives="class_ids: uint8 [1, size, size]",
    ),
    "litert_int8": Format(
        "model.tflite", _write_litert_int8, _load_litert, _INT8_AGREEMENT, **_LITERT,
        takes="images: RGB uint8 [1, size, size, 3]", gives="class_ids: uint8 [1, size, size]",
    ),
    "onnx": Format(
        "model.onnx", _write_onnx, _load_onnx, _FLOAT_AGREEMENT,
        ("tf2onnx", "onnxruntime"), "onnx", _PIXELS, _MASKS,
    ),
}  # fmt: skip


def write(name: str, serving: ServingModel, folder: Path, images: np.ndarray) -> Path:
    """Writes a model in one format into a folder; the path of what was written."""
    path = folder / FORMATS[name].file if FORMATS[name].file else folder
    with standard_error.held_back():
        FORMATS[name].write(serving, path, images)
    return path


def load(name: str, path: Path) -> Segment:
    """An exported model as a function; see Format.load."""
    with standard_error.held_back():
        return FORMATS[name].load(path)
