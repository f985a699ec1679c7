"""What the benchmark scripts measure, and how they tell of it."""
