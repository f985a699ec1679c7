"""Gradients of trait and distillation at every step of a student."""
