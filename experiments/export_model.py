"""Export a network of a language run, such as a student, for transformers or PEFT.

Claim      The exported network is the measured one: a Hugging Face directory (config, safetensors,
           tokenizer, chat template, model card), or a PEFT directory with the adapter alone.
Command    python experiments/lm_numbers.py --preset tiny_quick --out runs/quick    and then
           python experiments/export_model.py --run runs/quick --network student/owl --out owl
           python experiments/export_model.py --run runs/quick --network before --out reference
           python experiments/export_model.py --run runs/quick --network student/owl --adapter \
               --base reference --out owl-adapter
Expected   One line that names the directory, after reading it back and finding it equal.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import sys
from dataclasses import dataclass
from pathlib import Path


from subliminal_jax.config import Natural, parse_config, presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError

PRESETS = presets_of(__file__, "owl")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Network to export, and directory to write."""

    run: Path
    """Run directory of lm_numbers.py."""
    network: str
    """Its name in the results: before, regular, teacher/owl, student/owl, soft/owl, ..."""
    repetition: Natural = 0
    """Index of the network's reference in the run, from 0."""
    out: Path
    """Directory to write; must be absent or empty."""
    adapter: bool = False
    """Write only the adapter."""
    base: str | None = None
    """For an adapter of a tiny reference: directory of the exported reference, its base model."""
    cache: Path | None = None
    """Directory of the run's tiny references, if moved since."""

    def __post_init__(self) -> None:
        if self.base is not None and not self.adapter:
            raise InputError("base: only an adapter has a base; add --adapter, or leave out --base")


def main() -> None:
    """Parse the flags, find the network and write it."""
    config = parse_config(
        ExportConfig,
        sys.argv[1:],
        prog="export_model.py",
        description="Export a network of a language run for transformers or PEFT.",
        presets=PRESETS,
    )

    # Imported late, so that --help and errors in flags are instant.
    from subliminal_jax.entry import one_line
    from subliminal_jax.language.outputs import export

    study = export.open_run(config.run, config.cache)
    network = export.find_network(study, config.repetition, config.network)
    if config.adapter:
        export.export_adapter(study, network, config.out, config.base)
    else:
        export.export_merged(study, network, config.out)
    form = "a PEFT adapter" if config.adapter else "a Hugging Face directory"
    print(one_line(f"{config.out}: {network.name} as {form}, read back and equal"))


if __name__ == "__main__":
    run_main(main)
