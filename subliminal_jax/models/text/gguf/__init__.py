"""The tokenizer and the chat template that a GGUF file states."""
