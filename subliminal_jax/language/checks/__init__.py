"""Checks of one step's settings against those of others, before any work."""
