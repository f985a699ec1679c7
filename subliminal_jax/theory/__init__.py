"""Why it happens: the theorem measured, gradients aligned, and what predicts the effect."""
