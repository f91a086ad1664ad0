"""Corpus: what people say of recordings: the manifest, labels, annotations in time.

Here: reading and checking it. Not here: the sound (`audio`), what the teacher says (`store`). May import `storage`,
`classes`, and the floors below.
"""
