"""Labels: hard and soft labels of the same rows, as training reads them.

Here: the rows, the steps that change them, crops, saving. Not here: how they were joined (`joins`); no store is known.
May import `batches` and all floors below.
"""
