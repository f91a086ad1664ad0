"""Evidence: what annotated clips say of a teacher: examples, agreement, the alignment canary, ranking, trust.

Not here: what is changed because of it (`calibration`, `adaptation`); where rows come from (`labels`). May import
`classes`, and the floors below.
"""
