"""The losses for PyTorch alone: the operations that their arithmetic is written in, and the functions.

It imports PyTorch and NumPy, and of this room what needs no Keras.
"""
