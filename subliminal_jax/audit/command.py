"""The command line of the detection experiment: a run, or its plan."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from subliminal_jax.audit.config import DetectionConfig
from subliminal_jax.audit.plan import format_plan
from subliminal_jax.language.command import parsed

if TYPE_CHECKING:
    from subliminal_jax.audit.detection import Detection


def command(
    name: str,
    methods: "Callable[[Detection, int], None]",
    presets: dict[str, Path],
    description: str,
) -> None:
    """Do what the flags in `sys.argv` ask for.

    Args:
        name: name of the script, without its suffix; runs are named by it.
        methods: runs all detectors with one reference.
        presets: configs by name, the default one first.
        description: what the script does, for `--help`.

    Raises:
        InputError: the flags, an artifact, a model or the rows are refused.
        RunError: a training failed, or a trait's word was left in the data.
    """
    config = parsed(DetectionConfig, name, presets, description)
    # Imported late, so that --help, --plan and errors in flags are instant.
    if config.plan:
        print(format_plan(config))
    else:
        from subliminal_jax.audit.experiment import run
        from subliminal_jax.execution.cluster import cluster_of, joined

        with joined(cluster_of(os.environ, asked=config.all_hosts)):
            run(config, methods, name)
