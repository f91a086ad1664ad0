"""Kept: arrays made of a store that are too dear to make for every run, on this machine, checked as they are read.

Here: building once among processes, pages with checksums. Not here: what is kept (`joins`, `labels`, `adaptation`). May
import `storage` and the floors below.
"""
