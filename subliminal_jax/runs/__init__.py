"""Run directories: the runner, artifacts, checkpoints and the resumable training loop."""
