"""Searches for settings: what is searched for, studies, and trials trained in batches."""
