"""Teachers: models that score windows of audio.

Here: what they all promise, BirdNET, LiteRT, Keras, ONNX, and folding. Imports nothing of pipeline outside this room.
"""
