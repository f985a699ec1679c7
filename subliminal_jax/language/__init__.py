"""The six steps with a language model: reference, trait, teacher, dataset, filter, student."""
