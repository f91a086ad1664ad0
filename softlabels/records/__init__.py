"""Records: what stands on the disk, each kind of file with the way to its bytes and back: spec, plan, shard, receipt.

Here: the format and the commit. Not here: reading a store as one thing (`store`), or who writes it (`pipeline`).
"""
