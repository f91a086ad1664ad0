"""Checking: is a store what it says, can it be made again, what does another one say.

Here: verify, regenerate, compare. May import `planning`, `labelling`, and the floors below.
"""
