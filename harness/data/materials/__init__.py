"""The Materials Project: its client, and a cache of what it sent."""
