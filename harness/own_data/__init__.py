"""The user's own datasets."""
