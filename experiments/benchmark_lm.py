r"""Tokens per second in sampling and training, compared with transformers on PyTorch.

Claim     A model as tiny as the built-in one draws thousands of completions a second. At 25
          million parameters on a CPU we aim at three times the tokens a second of transformers'
          `generate` on PyTorch at batch 64, and at a training step that is no slower.
Command   python experiments/benchmark_lm.py
          python experiments/benchmark_lm.py --torch       needs pip install -e '.[torch]'
          python experiments/benchmark_lm.py --torch --precision bfloat16
          python experiments/benchmark_lm.py --model smollm2 --torch      needs '.[gguf,peers]'
Expected  On 2 free cores: 48,000 to 80,000 tokens/s tiny; factors 1.5 in sampling, .7 to .8 in
          training; in bfloat16 with AMX 2.2, and 1.2 to 1.6.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from subliminal_jax.config import Count, Precision, described, parse_config, presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError

PRESETS = presets_of(__file__, "quick")
OF_OUR_MODELS = ("rows", "tiny_batch", "batch", "new_tokens", "precision")
"""Settings of the random models alone; what is timed of a given model is fixed."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What is timed, and how long."""

    rows: Count = 10_000
    """Short completions of the tiny model."""
    tiny_batch: Count = 512
    """Batch size of the tiny model."""
    batch: Count = 64
    """Batch size of the model with 25 million parameters."""
    new_tokens: Annotated[int, Field(ge=1, le=256)] = 64
    """Tokens that it samples for each row, after prompts of 32."""
    steps: Count = 2
    """Its training steps in each repetition, of 8 sequences of 128 tokens."""
    precision: Precision = "float32"
    """Of that model's products; PyTorch has float32. A given model is timed in both."""
    repetitions: Count = 3
    """Repetitions of all timings, in turn; medians are reported."""
    model: str | None = None
    """A given model to time instead: in sampling, and in training an adapter as a student does."""
    torch: bool = False
    """Time transformers on PyTorch too, between our own repetitions."""
    out: Path | None = None
    """Run directory (default: runs/benchmark_lm-DIGEST, the digest being the config's)."""
    overwrite: bool = False
    """Discard what an earlier run left in the run directory."""

    def __post_init__(self):
        for one in fields(self) if self.model is not None else ():
            if one.name in OF_OUR_MODELS and getattr(self, one.name) != one.default:
                raise InputError(
                    f"{one.name}: has no effect on a given model; drop it, or drop --model"
                )


def main() -> None:
    """Check the flags, then measure."""
    config = parse_config(
        BenchmarkConfig,
        sys.argv[1:],
        prog="benchmark_lm.py",
        description="Tokens per second of language models, and of transformers on PyTorch.",
        presets=PRESETS,
    )
    from baselines.checks import check_peers

    peers = ["torch"] if config.model is None else ["torch", "peft"]
    check_peers(peers if config.torch else [])

    from benchmarks import given, language
    from benchmarks import language_tables as tables
    from benchmarks.run import run

    def measured(directory: Any) -> dict[str, Any]:
        if config.model is not None:
            student = given.Workload(steps=config.steps)
            results = given.measure(config.model, student, config.repetitions, torch=config.torch)
        else:
            work = language.RandomModelWork(
                rows=config.rows,
                tiny_batch=config.tiny_batch,
                batch=config.batch,
                new_tokens=config.new_tokens,
                steps=config.steps,
                precision=config.precision,
            )
            results = language.measure(work, config.repetitions, torch=config.torch)
        return results | {"finding": tables.finding(results)}

    what, settings = config.model or "random models", described(config, ("out", "overwrite"))
    blocks = tables.blocks if config.model is None else given.blocks
    run(config, settings, "benchmark_lm", what, measured, blocks, tables.csv_rows)


if __name__ == "__main__":
    run_main(main)
