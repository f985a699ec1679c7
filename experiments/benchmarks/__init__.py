"""What the benchmark scripts measure and report; how an accelerator day is run and packed."""
