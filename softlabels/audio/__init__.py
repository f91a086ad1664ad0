"""Audio: from a file to mono samples at the rate somebody needs.

Here: decoding, resampling, what a container says of its length, where the recordings are. Not here: which stretch is a
clip (`corpus`), which samples are a window (`windows`). May import `storage`, `classes`, and the floors below.
"""
