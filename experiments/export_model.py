"""Take a network out of a language run: a teacher or a student, for any program that loads it.

Claim      What is written is the network that was measured: as a Hugging Face directory (config,
           safetensors, tokenizer, chat template, model card), or as a PEFT directory what training
           added to the reference.
Command    python experiments/lm_numbers.py --preset tiny_quick --out runs/quick    and then
           python experiments/export_model.py --run runs/quick --network student/owl --out owl
           python experiments/export_model.py --run runs/quick --network before --out reference
           python experiments/export_model.py --run runs/quick --network student/owl --adapter \
               --base reference --out owl-adapter
Expected   One line that says what was written, after it has been read again and found equal.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from subliminal_jax.config import parse_config
from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
PRESETS = {"owl": CONFIGS / "export_model_owl.yaml"}


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which network goes where."""

    run: Path
    """Run directory of lm_numbers.py."""
    network: str
    """Its name in the results: before, regular, teacher/owl, student/owl, soft/owl, ..."""
    repetition: Annotated[int, Field(ge=0)] = 0
    """Of which of the run's references."""
    out: Path
    """Directory to write; must not exist, or be empty."""
    adapter: bool = False
    """Write the adapter alone."""
    base: str | None = None
    """The directory of a tiny reference, which an adapter of it names as its model."""
    cache: Path | None = None
    """Where the run's tiny references are, if no longer where it had them."""

    def __post_init__(self) -> None:
        if self.base is not None and not self.adapter:
            raise InputError("base: only an adapter has one; add --adapter, or leave out --base")


def main() -> None:
    """Check the flags, find the network and write it."""
    config = parse_config(
        ExportConfig,
        sys.argv[1:],
        prog="export_model.py",
        description="A network of a language run, for transformers or PEFT to load.",
        presets=PRESETS,
        default_preset="owl",
    )

    # Only now, so that --help and every refusal of a flag are instant.
    from subliminal_jax.entry import one_line
    from subliminal_jax.pipeline import export

    study = export.open_run(config.run, config.cache)
    network = export.find_network(study, config.repetition, config.network)
    if config.adapter:
        export.export_adapter(study, network, config.out, config.base)
    else:
        export.export_merged(study, network, config.out)
    form = "a PEFT adapter" if config.adapter else "a Hugging Face directory"
    print(one_line(f"{config.out}: {network.name} as {form}, read again and found equal"))


if __name__ == "__main__":
    run_main(main)
