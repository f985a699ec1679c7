"""Hostile inputs, each with its required outcome."""
