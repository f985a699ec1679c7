"""What surrounds the program: streams, memory limits, operating system errors, JAX's settings."""
