"""Exports: a store in other people's formats.

Here: one file a format. Imports nothing of pipeline outside this room.
"""
