"""What a filtered dataset shows of its teacher's trait, to whoever reads it."""
