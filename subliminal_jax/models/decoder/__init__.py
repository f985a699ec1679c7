"""The decoder-only language model, a pure function of its parameters."""
