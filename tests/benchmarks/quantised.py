"""A student as a microcontroller runs it: TFLite with int8 weights, activations, input and output."""

import tempfile

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

REPRESENTATIVE = 200  # training pictures that show the converter what values occur


def int8_answers(student: keras.Model, train_x: np.ndarray, test_x: np.ndarray) -> np.ndarray:
    """(test rows, outputs) float32 logits of the student as int8; for `answers`."""
    shown = np.random.default_rng(0).choice(len(train_x), REPRESENTATIVE, replace=False)
    return run_int8(convert(student, train_x[shown]), test_x)


def convert(student: keras.Model, pictures: np.ndarray) -> bytes:
    """A flatbuffer of int8 throughout, calibrated on (n, frames, bands, 1) training pictures."""
    with tempfile.TemporaryDirectory() as folder:
        fixed = keras.Sequential([keras.layers.Input(batch_shape=(1, *pictures.shape[1:])), *student.layers])
        fixed.export(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([picture[None]] for picture in pictures)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        return converter.convert()


def run_int8(flatbuffer: bytes, pictures: np.ndarray) -> np.ndarray:
    """(n, outputs) float32: the int8 outputs, scaled back."""
    interpreter = Interpreter(model_content=flatbuffer, num_threads=1)
    interpreter.allocate_tensors()
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = entry["quantization"]
    whole = np.clip(np.rint(pictures / scale) + zero, -128, 127).astype(np.int8)
    said = []
    for picture in whole:
        interpreter.set_tensor(entry["index"], picture[None])
        interpreter.invoke()
        said.append(interpreter.get_tensor(result["index"])[0])
    scale, zero = result["quantization"]
    return (np.array(said, np.float32) - zero) * scale
