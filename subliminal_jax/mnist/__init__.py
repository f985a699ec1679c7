"""The MNIST experiment: from random initialisations to students that read digits."""
