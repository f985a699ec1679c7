"""Outputs of the language experiment: plan, preview, report, exported models."""
