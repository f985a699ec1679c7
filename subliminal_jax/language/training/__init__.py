"""Networks of the language experiment: training and sampling, weights, losses, devices."""
