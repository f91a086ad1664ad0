"""Classes: ordered lists of names, and how two lists meet.

Here: the class list and its files, finding names, tables of names over the years, mapping files. Not here: which
classes a clip has (`corpus`). May import `tables`, `digests`, and the stones.
"""
