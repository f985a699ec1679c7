"""Models of other programs: Hugging Face directories and PEFT adapters, read and written."""
