"""Students trained in several ways on the same rows: arms, rates chosen apart, results."""
