"""Measurements of the benchmark scripts, and their reports."""
