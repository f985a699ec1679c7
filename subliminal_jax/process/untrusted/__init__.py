"""Runs untrusted Python functions within limits, in a process of their own."""
