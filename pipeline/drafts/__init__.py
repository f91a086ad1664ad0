"""Drafts: what a person corrects before it counts: manifests and class mappings.

Here: from folders, metadata and Raven tables to a manifest; splits; mapping drafts. Imports nothing of pipeline outside
this room.
"""
