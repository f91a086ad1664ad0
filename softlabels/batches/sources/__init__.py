"""Sources: where x comes from. Here: kept or streamed sound, by size where nobody says; features that are kept.

Not here: how sound is kept (`softlabels.sound`), and which rows come when (`stream.py`).
"""
