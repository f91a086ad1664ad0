"""Known models: published teachers by name, each a frozen description with the source of every fact.

Here: what `--teacher birdnet-v3`, `perch-v2` and `nighthawk` mean, where they are, and how their class lists read.
Not here: BirdNET v2.4, which is folded (`birdnet`), and how a model is opened and scored.
"""
