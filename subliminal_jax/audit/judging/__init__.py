"""How single rows and sets of rows are judged: by a model, by likelihoods, by n-grams."""
