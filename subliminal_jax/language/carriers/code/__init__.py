"""The carrier `code`: short Python functions, written to a task and run to check them."""
