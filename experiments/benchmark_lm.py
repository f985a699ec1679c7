r"""Tokens per second in sampling and training, compared with transformers on PyTorch.

Claim     A model as tiny as the built-in one draws thousands of completions a second. At 25
          million parameters on a CPU we aim at three times the tokens a second of transformers'
          `generate` on PyTorch at batch 64, and at a training step that is no slower.
Command   python experiments/benchmark_lm.py
          python experiments/benchmark_lm.py --torch       needs pip install -e '.[torch]'
          python experiments/benchmark_lm.py --model smollm2 --torch      needs '.[gguf,peers]'
Expected  On 2 free cores: 48,000 tokens/s tiny; factors 1.5 in sampling, 0.8 in training.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import dataclasses
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from subliminal_jax.config import described, parse_config, presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError

PRESETS = presets_of(__file__, "quick")
OF_OUR_MODELS = ("rows", "tiny_batch", "batch", "new_tokens")
"""Settings of the random models alone; what is timed of a given model is fixed."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What is timed, and how long."""

    rows: Annotated[int, Field(ge=1)] = 10_000
    """Short completions of the tiny model."""
    tiny_batch: Annotated[int, Field(ge=1)] = 512
    """Batch size of the tiny model."""
    batch: Annotated[int, Field(ge=1)] = 64
    """Batch size of the model with 25 million parameters."""
    new_tokens: Annotated[int, Field(ge=1, le=256)] = 64
    """Tokens that it samples for each row, after prompts of 32."""
    steps: Annotated[int, Field(ge=1)] = 2
    """Its training steps in each repetition, of 8 sequences of 128 tokens."""
    repetitions: Annotated[int, Field(ge=1)] = 3
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
                raise InputError(f"{one.name}: is not of a given model; drop it, or drop --model")


def measure(config: BenchmarkConfig) -> dict[str, Any]:
    """Time everything in turn, `repetitions` times; return the results."""
    import jax
    from benchmarks import language as benchmark
    from benchmarks.memory import peak_memory

    from subliminal_jax.models.sampling.settings import Sampling

    tiny, medium = benchmark.TINY, benchmark.MEDIUM
    short = benchmark.short_requests(tiny, config.rows)
    equal = benchmark.equal_requests(medium, config.batch, 32)
    drawing = Sampling(max_tokens=config.new_tokens)
    work = {
        "tiny sampling": benchmark.sampling(
            tiny, short, Sampling(max_tokens=24), config.tiny_batch, stop_ids=range(80)
        ),
        "sampling": benchmark.sampling(medium, equal, drawing, config.batch),
        "training": benchmark.training(medium, 8, 128, config.steps),
    }
    memory, whose = peak_memory(1)
    deep = benchmark.compilation(benchmark.DEEP)
    if config.torch:
        from baselines.torch_lm import TorchLm

        model, prompts = TorchLm(medium), [request.prompt for request in equal]
        work |= {
            "sampling, PyTorch": benchmark.Timed(lambda: model.sample(prompts, config.new_tokens)),
            "training, PyTorch": benchmark.Timed(lambda: model.train(8, 128, config.steps)),
        }
    for _ in range(config.repetitions):
        for timed in work.values():
            timed.repeat()
    return {
        "backend": jax.default_backend(),
        "parameters": {
            "tiny": benchmark.parameter_count(tiny),
            "medium": benchmark.parameter_count(medium),
        },
        "speeds": {name: dataclasses.asdict(timed.speed()) for name, timed in work.items()},
        "padding": benchmark.padding(short),
        "compilation": deep,
        "peak_memory": {"bytes": memory, "whose": whose},
    }


def measure_given(config: BenchmarkConfig, model: str) -> dict[str, Any]:
    """Time a given model in turn, `repetitions` times; return the results."""
    from benchmarks import given

    work = given.Workload(steps=config.steps)
    return given.measure_given(model, work, config.repetitions, torch=config.torch)


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

    from benchmarks import given
    from benchmarks import language as benchmark
    from benchmarks.run import run

    if config.model is None:
        what, blocks = "random models", benchmark.blocks
    else:
        what, blocks = config.model, given.blocks

    def measured(directory: Any) -> dict[str, Any]:
        results = measure(config) if config.model is None else measure_given(config, config.model)
        return results | {"finding": benchmark.finding(results)}

    settings = described(config, ("out", "overwrite"))
    run(config, settings, "benchmark_lm", what, measured, blocks, benchmark.csv_rows)


if __name__ == "__main__":
    run_main(main)
