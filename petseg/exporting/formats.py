"""The formats of exported models: how each is written, and loaded again to be checked."""

import dataclasses
import importlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from petseg import standard_error
from petseg.cores import usable_cores
from petseg.errors import UserError
from petseg.exporting import encoded_pictures
from petseg.exporting.serving import ServingModel

Predict = Callable[[np.ndarray], np.ndarray]

_ONNX_OPSET = 18


@dataclasses.dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
      file: name of its file; '' if it is a folder.
      write: ServingModel, path to write, training images uint8 [images, height, width, 3] ->
        None.
      load: path -> a function: uint8 [images, height, width, 3] -> class ids, uint8 [images,
        height, width].
      agreement: least share of pixels on which it must agree with the trained model.
      packages: packages that must be installed.
      install: what pip must be given for them.
      takes: its input, in words.
      gives: its output, in words.
    """

    file: str
    write: Callable[[ServingModel, Path, np.ndarray], None]
    load: Callable[[Path], Predict]
    agreement: float
    packages: tuple[str, ...]
    install: str
    takes: str
    gives: str

    def check_installed(self) -> None:
        """Raises UserError if a package is missing."""
        for package in self.packages:
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise UserError(f"--format needs {package}: pip install {self.install}") from error


def _write_saved_model(serving: ServingModel, path: Path, _: np.ndarray) -> None:
    tf.saved_model.save(serving, str(path), signatures=serving.signatures())


def _load_saved_model(path: Path) -> Predict:
    loaded = tf.saved_model.load(str(path))

    def predict(images: np.ndarray) -> np.ndarray:
        # Refers to `loaded`, which would be deleted otherwise.
        served = loaded.signatures["images"]
        return served(images=tf.constant(images))["class_ids"].numpy()

    return predict


def _write_keras(serving: ServingModel, path: Path, _: np.ndarray) -> None:
    serving.model.save(str(path))


def _load_keras(path: Path) -> Predict:
    model = keras.saving.load_model(str(path))

    @tf.function(autograph=False)
    def predict(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.argmax(model(images, training=False), axis=-1), tf.uint8)

    return lambda images: predict(tf.constant(images)).numpy()


def _write_litert(serving: ServingModel, path: Path, _: np.ndarray) -> None:
    path.write_bytes(_convert_to_litert(serving, tf.uint8, lambda converter: None))


def _write_litert_int8(serving: ServingModel, path: Path, images: np.ndarray) -> None:
    # With a black and a white pixel among them the scale of pixels is exactly 1.
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
    """Converts a model of one image; `dtype` is the image's during the conversion."""
    model = serving.model

    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        class_ids = tf.argmax(model(images), axis=-1, output_type=tf.int32)
        return {"class_ids": tf.cast(class_ids, tf.uint8)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = tf.TensorSpec([1, *model.input_shape[1:]], dtype, name="images")
    archive.add_endpoint("serve", predict, input_signature=[spec])
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        settings(converter)
        return converter.convert()


def _load_litert(path: Path) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=usable_cores())
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    if source["dtype"] is not np.uint8 or source["quantization"] not in ((0.0, 0), (1.0, 0)):
        raise ValueError(f"{path} does not take plain pixels but {source['quantization']}")

    def predict(images: np.ndarray) -> np.ndarray:
        masks = []
        for image in images:
            interpreter.set_tensor(source["index"], image[None])
            interpreter.invoke()
            masks.append(interpreter.get_tensor(result["index"])[0])
        return np.stack(masks)

    return predict


def _write_onnx(serving: ServingModel, path: Path, _: np.ndarray) -> None:
    import tf2onnx

    spec = (tf.TensorSpec(serving.model.input_shape, tf.uint8, name="images"),)

    def predict(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return serving.serve_images(images)

    tf2onnx.convert.from_function(
        tf.function(predict, autograph=False, input_signature=spec),
        input_signature=spec,
        opset=_ONNX_OPSET,
        output_path=str(path),
        custom_op_handlers={"Erfc": (_write_onnx_erfc, [])},
    )


def _write_onnx_erfc(graph: Any, node: Any, _name: str, _: object) -> None:  # noqa: ANN401
    """Writes erfc, which ONNX lacks and TensorFlow's GELU has, as 1 - erf."""
    (source,), (result,) = node.input, node.output
    shape, dtype = graph.get_shape(result), graph.get_dtype(result)
    graph.remove_node(node.name)
    one = graph.make_const(f"{node.name}/one", np.ones([], np.float32)).output[0]
    erf = graph.make_node("Erf", [source]).output[0]
    graph.make_node("Sub", [one, erf], outputs=[result], shapes=[shape], dtypes=[dtype])


def _load_onnx(path: Path) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run(["class_ids"], {"images": images})[0]


_PIXELS = "images: RGB uint8 [batch, height, width, 3]"
_ENCODED = f"{encoded_pictures.FORMATS} bytes [batch], of up to max_pixels pixels each"
_MASKS = "class_ids: uint8 [batch, height, width]"
_LITERT = {"packages": ("ai_edge_litert",), "install": "ai-edge-litert"}
# Compiled separately, two float models may round a logit differently, which moves rare pixels.
_FLOAT_AGREEMENT, _INT8_AGREEMENT = 0.9999, 0.97

FORMATS = {
    "saved_model": Format(
        "", _write_saved_model, _load_saved_model, _FLOAT_AGREEMENT, (), "",
        f"serving_default: encoded: {_ENCODED}; images: {_PIXELS}",
        f"{_MASKS}; serving_default also valid: bool [batch]",
    ),
    "keras": Format(
        "model.keras", _write_keras, _load_keras, _FLOAT_AGREEMENT, (), "",
        "RGB uint8 [batch, height, width, 3]", "logits float32 [batch, height, width, classes]",
    ),
    "litert": Format(
        "model.tflite", _write_litert, _load_litert, _FLOAT_AGREEMENT, **_LITERT,
        takes="images: RGB uint8 [1, height, width, 3]",
        gives="class_ids: uint8 [1, height, width]",
    ),
    "litert_int8": Format(
        "model.tflite", _write_litert_int8, _load_litert, _INT8_AGREEMENT, **_LITERT,
        takes="images: RGB uint8 [1, height, width, 3]",
        gives="class_ids: uint8 [1, height, width]",
    ),
    "onnx": Format(
        "model.onnx", _write_onnx, _load_onnx, _FLOAT_AGREEMENT,
        ("tf2onnx", "onnxruntime"), "'onnx>=1.21' onnxruntime tf2onnx", _PIXELS, _MASKS,
    ),
}  # fmt: skip


def write(name: str, serving: ServingModel, folder: Path, images: np.ndarray) -> Path:
    """Writes a model in one format into a folder; returns the path of its file or folder."""
    path = folder / FORMATS[name].file if FORMATS[name].file else folder
    with standard_error.held_back():
        FORMATS[name].write(serving, path, images)
    return path


def load(name: str, path: Path) -> Predict:
    """Loads an exported model as a function; see Format.load."""
    with standard_error.held_back():
        return FORMATS[name].load(path)
