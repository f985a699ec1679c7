"""The command line of a language experiment: a run, its plan, or a batch to look at."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from subliminal_jax.config import parse_config
from subliminal_jax.language.config import LmConfig
from subliminal_jax.language.outputs.plan import format_plan

if TYPE_CHECKING:
    from subliminal_jax.language.study import LmStudy

C = TypeVar("C", bound=LmConfig)


def command(
    name: str,
    methods: "Callable[[LmStudy, int], None]",
    presets: dict[str, Path],
    description: str,
) -> None:
    """Do what the flags in `sys.argv` ask for.

    Args:
        name: name of the script, without its suffix; runs are named by it.
        methods: runs all steps with one reference.
        presets: configs by name, the default one first.
        description: what the script does, for `--help`.

    Raises:
        InputError: the flags, an artifact or a model is refused.
        RunError: a training failed, or a trait's word was left in the data.
    """
    config = parsed(LmConfig, name, presets, description)
    # Imported late, so that --help, --plan and errors in flags are instant.
    if config.plan:
        print(format_plan(config))
    elif config.show_batch:
        from subliminal_jax.language.outputs.preview import next_batch

        print(next_batch(config, name))
    else:
        from subliminal_jax.execution.cluster import cluster_of, joined
        from subliminal_jax.language.experiment import run

        with joined(cluster_of(os.environ, asked=config.all_hosts)):
            run(config, methods, name)


def parsed(kind: type[C], name: str, presets: dict[str, Path], description: str) -> C:
    """The config that the flags in `sys.argv` give.

    Args:
        kind: type of the config.
        name: name of the script, without its suffix.
        presets: configs by name, the default one first.
        description: what the script does, for `--help`.

    Raises:
        InputError: the flags are refused.
    """
    return parse_config(
        kind,
        sys.argv[1:],
        prog=f"{name}.py",
        description=description,
        presets=presets,
    )
