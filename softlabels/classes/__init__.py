"""Classes: ordered lists of names, and how two lists meet.

Here: the class list, finding names, mapping files. Not here: which classes a clip has (`corpus`). May import `tables`,
`digests`, and the stones.
"""
