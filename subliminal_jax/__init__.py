"""Subliminal learning in JAX: students that take on a teacher's trait through unrelated data."""

__version__ = "0.1.0"
