"""Misalignment: narrowly bad advice, and how far it spreads."""
