"""Images, noise and token rows, and the order in which training reads them."""
