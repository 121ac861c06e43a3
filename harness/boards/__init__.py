"""Leaderboards: cells in rows and columns, and every form in which they are read and passed on."""
