"""Rows of chat data: read, filtered, shuffled."""
