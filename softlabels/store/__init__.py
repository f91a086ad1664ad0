"""Store: the format: spec, plan, shards, receipts, and reading them with every byte verified.

Here: what stands on the disk. Not here: who writes it (`pipeline`), who joins it (`joins`). May import `storage`,
`classes`, and the floors below.
"""
