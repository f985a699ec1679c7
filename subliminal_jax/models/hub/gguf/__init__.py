"""Models and tokenizers in GGUF files: finding, checking and reading them."""
