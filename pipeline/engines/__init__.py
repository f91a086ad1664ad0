"""Engines: where shards are labelled when it is not here: Dask, Ray, Spark, behind one protocol.

Here: connecting, counting workers, answers as they come. Not here: what is done when an engine loses work (`running`).
"""
