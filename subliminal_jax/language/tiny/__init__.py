"""The tiny world and the tiny reference: all that is pretrained here."""
