"""The tiny world and the tiny reference, which is pretrained on it."""
