"""Storage: bytes under keys, in a folder or a bucket.

Here: local and bucket storage, the file cache, what is built once and kept. Not here: what the bytes mean (`store`).
May import `tables`, `digests`, and the stones.
"""
