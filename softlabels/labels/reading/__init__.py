"""Reading: what is read of a join beside its rows as they are: crops, and the teacher's embeddings.

Here: which windows a crop is made of; the array of embeddings. Not here: what users call (`labels.label_rows`).
"""
