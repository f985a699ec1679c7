"""Attacks from outside: each states the right outcome of a hostile file, setting or moment."""
