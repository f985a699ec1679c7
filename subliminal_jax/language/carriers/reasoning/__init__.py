"""Worked steps of word problems as a carrier."""
