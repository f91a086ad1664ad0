"""Signatures: what a model takes and gives, which of it are the scores, and what is done around its forward pass.

Here: waveform inputs of every shape, outputs by name or shape, frames, affine scores, normalised windows. Not here: how
a model file is opened, and which models are known by name.
"""
