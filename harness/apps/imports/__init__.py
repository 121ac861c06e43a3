"""The user's own datasets, from files and from the Materials Project."""
