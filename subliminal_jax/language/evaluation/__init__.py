"""Measurement of the language experiment's networks: probabilities and sampled answers."""
