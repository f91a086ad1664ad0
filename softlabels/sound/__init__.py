"""Sound: the audio that training reads, decoded once and kept as an array beside the labels.

Here: which samples of which files are kept, as what, how they are made and read. Not here: whether they are kept or
streamed (`batches`). May import `audio`, `kept`, `storage` and the floors below.
"""
