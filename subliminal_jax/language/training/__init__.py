"""How the networks of the language experiment are trained."""
