"""Trained ensembles on disk, what they say of structures, and scans of very many."""
