"""Completions: drawn from a decoder, and scored by it."""
