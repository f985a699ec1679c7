"""Training of the language experiment's networks: data, losses, weights, devices."""
