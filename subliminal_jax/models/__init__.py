"""Networks behind a functional boundary: `init(config, key)` and `apply(params, inputs)`."""
