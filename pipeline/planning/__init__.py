"""Planning: what every file is, and which windows go into which shard.

Here: probing, laying out, making or extending a store. May import `teachers`, `drafts`, `exports`.
"""
