"""Leaderboards as web pages."""
