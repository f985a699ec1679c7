"""Speed of a given language model: sampling, and training an adapter as a student of numbers does.

A student's step is that of SmolLM2's preset: 16 rows of 66 tokens, whose last 31 are learnt among
11 tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.language import (
    PYTORCH,
    Timed,
    equal_requests,
    multiplied_weights,
)
from benchmarks.memory import peak_memory
from subliminal_jax import ensemble
from subliminal_jax.batch import Batch
from subliminal_jax.config import Precision
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.execution.program import Program
from subliminal_jax.keys import root_key
from subliminal_jax.language.settings import TuningConfig
from subliminal_jax.language.training.answers import AnswerInputs, imitation
from subliminal_jax.language.training.devices import as_trained
from subliminal_jax.language.training.task import chunks
from subliminal_jax.language.training.trainable import apply_of, begin
from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.config import Compute
from subliminal_jax.models.hub.weights import LanguageModel, load
from subliminal_jax.models.product_rate import product_rates
from subliminal_jax.models.sampling.sampler import Sampler
from subliminal_jax.models.sampling.settings import Sampling
from subliminal_jax.report.tables import Table
from subliminal_jax.train import init_state, make_loss_fn

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is timed; the defaults are those of a student of numbers.

    Attributes:
        batch: rows that are sampled together.
        prompt: tokens of each prompt.
        new: tokens that are sampled behind it.
        rows: rows of a training step.
        length: tokens of each.
        learnt: last tokens of each, which are learnt.
        among: tokens that a student chooses among.
        rank: of the adapter.
        steps: training steps of a repetition.
    """

    batch: int = 100
    prompt: int = 36
    new: int = 31
    rows: int = 16
    length: int = 66
    learnt: int = 31
    among: int = 11
    rank: int = 8
    steps: int = 2

    def batch_of(self, vocab: int) -> np.ndarray:
        """Return the random ids of a training step, `[rows, length + 1]`, the learnt ones few."""
        rng = np.random.default_rng(0)
        ids = rng.integers(0, vocab, (self.rows, self.length + 1))
        ids[:, -self.learnt :] = rng.integers(0, self.among, (self.rows, self.learnt))
        return ids.astype(np.int32)


def given(name: str, precision: Precision) -> LanguageModel:
    """Return a given model with weights and products of one precision, as a run has it.

    Raises:
        InputError: the model is not found, or refused.
    """
    model = load(name, dtype=precision)
    config = replace(model.config, compute=Compute(dtype=precision))
    return replace(model, config=config, params=as_trained(OneDevice(), model.params))


def sampling(model: LanguageModel, work: Workload) -> Timed:
    """Return the work of sampling a whole batch, prefill included."""
    prompts = equal_requests(model.config, work.batch, work.prompt)
    drawing = Sampling(max_tokens=work.new)
    sampler = Sampler(model.config, model.params, drawing, batch=work.batch)

    def run() -> tuple[int, Mapping[str, float]]:
        done = sampler.sample(prompts)
        return sum(len(one.tokens) for one in done), {}

    return Timed(run)


def training(model: LanguageModel, work: Workload) -> Timed:
    """Return the work of a student's steps: an adapter on a frozen model."""
    tuning, config = TuningConfig(rank=work.rank, alpha=2.0 * work.rank), model.config
    execution, tx = OneDevice(), optax.adam(1e-4)
    ids, few = jnp.asarray(work.batch_of(config.vocab)), np.arange(work.among)
    segments = jnp.ones((work.rows, work.length), jnp.int32)
    places = jnp.broadcast_to(
        jnp.arange(work.length - work.learnt, work.length), (work.rows, work.learnt)
    )
    batch = Batch(
        inputs=AnswerInputs(ids[:, :-1], segments, places),
        targets=ids[:, -work.learnt :],
        weights=jnp.ones((work.rows, work.learnt)),
    )
    criterion = imitation("hard", "forward", jnp.ones(work.among, bool))
    steps = chunks(
        execution,
        tx,
        lambda member, base: make_loss_fn(apply_of(tuning, config, base, few), criterion),
        lambda member, base, step: batch,
    )
    program = Program(steps(work.steps), execution)
    start = begin(tuning, config, model.params, root_key(0))
    state = execution.split(ensemble.stack([init_state(start, tx)]))
    member, base = execution.split(jnp.zeros(1)), execution.share(model.params)

    def run() -> tuple[int, Mapping[str, float]]:
        nonlocal state
        state, losses = program(state, member, base)
        return work.steps * work.rows * work.length, {"loss": float(losses[0, -1])}

    return Timed(run)


def flop(model: LanguageModel, work: Workload) -> dict[str, float]:
    """Return the FLOP of a repetition's products with the model's own kernels.

    Sampling reads each prompt and draws each token; a frozen kernel is multiplied with the
    activations and with their gradients.
    """
    config = model.config
    layers = multiplied_weights(config) - config.vocab * config.width
    drawn = work.batch * work.new * (layers + config.vocab * config.width)
    trained = work.steps * work.rows * work.length * layers
    return {
        "sampling": 2.0 * (work.batch * work.prompt * layers + drawn),
        "training": 4.0 * trained,
    }


def rates(model: LanguageModel, work: Workload) -> Mapping[Precision, float]:
    """Return the FLOP/s of this machine's products, of the shape of a training step."""
    config = model.config
    return product_rates(work.rows * work.length, config.width, config.mlp_width)


def measure(name: str, work: Workload, repetitions: int, *, torch: bool) -> dict[str, Any]:
    """Time a given model in both precisions, in turn; return the results.

    Args:
        name: the model.
        work: what is timed.
        repetitions: of all timings; medians are reported.
        torch: whether transformers and PEFT are timed too.
    """
    models = {precision: given(name, precision) for precision in PRECISIONS}
    timed = {f"sampling {each}": sampling(model, work) for each, model in models.items()}
    timed |= {f"training {each}": training(model, work) for each, model in models.items()}
    memory, whose = peak_memory(1)
    one = models["float32"]
    if torch:
        timed |= _torch(one, work)
    for _ in range(repetitions):
        for each in timed.values():
            each.repeat()
    return {
        "model": name,
        "backend": jax.default_backend(),
        "parameters": decoder.parameter_count(one.config),
        "flop": flop(one, work),
        "flop_per_s": dict(rates(one, work)),
        "speeds": {name: asdict(each.speed()) for name, each in timed.items()},
        "peak_memory": {"bytes": memory, "whose": whose},
    }


def _torch(model: LanguageModel, work: Workload) -> dict[str, Timed]:
    """Return the same work in transformers and PEFT, in both precisions."""
    from baselines.torch_given import TorchSampler, TorchTrainer  # an extra

    requests = equal_requests(model.config, work.batch, work.prompt)
    prompts = [request.prompt for request in requests]
    ids, timed = work.batch_of(model.config.vocab), dict[str, Timed]()
    for each in PRECISIONS:
        sampler = TorchSampler(model.files.path, each)
        trainer = TorchTrainer(model.files.path, each, work.rank)
        sample = partial(sampler.sample, prompts, work.new)
        train = partial(trainer.train, ids, work.learnt, work.among, work.steps)
        timed[f"sampling {each}{PYTORCH}"] = Timed(sample)
        timed[f"training {each}{PYTORCH}"] = Timed(train)
    return timed


def blocks(results: Mapping[str, Any]) -> list[Table]:
    """Return tokens per second: ours, PyTorch's, and the share of the machine's rate."""
    speeds, rate, rows = results["speeds"], results["flop_per_s"], []
    for name, speed in speeds.items():
        if name.endswith(PYTORCH):
            continue
        kind, precision = name.split()
        seconds = float(np.median(speed["seconds"]))
        share = results["flop"][kind] / seconds / rate[precision]
        row = [name, f"{speed['tokens']:,.0f}", f"{seconds:.2f}", f"{speed['first']:.2f}"]
        row += [f"{share:.0%}"]
        for theirs in _peers(kind, speeds):
            factor = speed["tokens"] / speeds[theirs]["tokens"]
            row += [f"{speeds[theirs]['tokens']:,.0f}", f"{factor:.2f}"]
        rows.append((*row, *[""] * (9 - len(row))))
    rates = ", ".join(f"{rate[one] / 1e9:,.0f} GFLOP/s in {one}" for one in PRECISIONS)
    memory = results["peak_memory"]
    return [
        Table(
            f"{results['model']}: {results['parameters']:,} parameters; a product of this machine: "
            f"{rates}",
            ("work", "tokens/s", "seconds", "first", "of the rate", *("PyTorch", "factor") * 2),
            tuple(rows),
            "PyTorch: in float32, then in bfloat16; factor: tokens/s here over its. Peak memory "
            f"before PyTorch: {memory['bytes'] / 1e9:.2f} GB {memory['whose']}.",
        )
    ]


def _peers(kind: str, speeds: Mapping[str, Any]) -> Sequence[str]:
    names = [f"{kind} {precision}{PYTORCH}" for precision in PRECISIONS]
    return [name for name in names if name in speeds]
