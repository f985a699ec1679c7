"""Data that teachers write: sampling, filtering, judging, and the shuffled variants."""
