"""Joins: a manifest and a store become labels.

Here: how a join is made, checked and averaged over teachers. Not here: reading what was made (`labels`). May import
`labels` and all floors below.
"""
