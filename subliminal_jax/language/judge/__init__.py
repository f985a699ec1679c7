"""Judges: score an answer to an open question from 0 to 100, by a local model or an endpoint."""
