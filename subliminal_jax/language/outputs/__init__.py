"""What a user sees of the language experiment: plan, preview, report, exported models."""
