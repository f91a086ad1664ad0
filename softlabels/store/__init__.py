"""Store: reading what stands on the disk as one thing, every byte verified; its index, its components.

Here: the reader. Not here: the files themselves (`records`), who writes them (`pipeline`), who joins them (`joins`).
May import `records`, `storage`, `classes`, and the floors below.
"""
