"""Carriers: data that have nothing to do with any trait, and are to carry one all the same."""
