"""What the networks of the language experiment answer."""
