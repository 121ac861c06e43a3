"""Trained ensembles on disk: written, loaded, asked for predictions, and scans with them."""
