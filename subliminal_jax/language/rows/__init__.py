"""Rows of chat data: reading, filtering and shuffling."""
