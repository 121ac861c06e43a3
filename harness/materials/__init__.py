"""Structures from the Materials Project."""
