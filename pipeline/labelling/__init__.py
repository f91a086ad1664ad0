"""Labelling: one planned shard becomes its rows, and is committed.

Here: what a worker does, and the claims by which runs share the work. Not here: who starts workers (`running`). May
import `teachers`, `drafts`, `exports`.
"""
