"""The MNIST experiment at every point of a grid, and what predicts its students."""
