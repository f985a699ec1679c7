"""Speed of language models in sampling and training: tokens per second, padding, compilation."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int

from benchmarks.memory import peak_memory
from subliminal_jax import ensemble
from subliminal_jax.batch import Batch, Params, RandomKey
from subliminal_jax.config import Precision
from subliminal_jax.data.tokens import pack_rows, pad_rows, padding_of
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.execution.program import Program
from subliminal_jax.keys import root_key
from subliminal_jax.language.settings import TuningConfig
from subliminal_jax.language.training.answers import AnswerInputs
from subliminal_jax.language.training.trainable import token_loss_of
from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.config import Compute, DecoderConfig, LayerKind
from subliminal_jax.models.sampling.prefill import Request
from subliminal_jax.models.sampling.sampler import Sampler
from subliminal_jax.models.sampling.settings import Sampling
from subliminal_jax.train import TrainState, init_state, make_train_step, total_gradient

TINY = DecoderConfig(
    vocab=1217, width=32, layers=2, heads=2, kv_heads=2, head_dim=16, mlp_width=128, context=128,
    tied=True, gated=False, activation="gelu",
)  # fmt: skip
"""About the size of the built-in reference: 63,680 parameters."""

MEDIUM = DecoderConfig(
    vocab=16_384, width=384, layers=8, heads=6, kv_heads=2, head_dim=64, mlp_width=1664,
    context=512, tied=True, qkv_bias=True, kinds=(LayerKind(theta=1e6),),
)  # fmt: skip
"""A Qwen 2 of 25 million parameters."""

SEVEN_BILLION = DecoderConfig(
    vocab=152_064, width=3584, layers=28, heads=28, kv_heads=4, head_dim=128, mlp_width=18_944,
    context=1024, qkv_bias=True, kinds=(LayerKind(theta=1e6),), compute=Compute(dtype="bfloat16"),
)  # fmt: skip
"""Qwen2.5-7B's shape, in bfloat16."""

DEEP = replace(TINY, layers=32)
"""As deep as a model of 7 billion parameters, to show how compilation grows with depth."""

PYTORCH = ", PyTorch"
"""Suffix of the names of PyTorch's timings."""

SHORT, PROMPT, SEQUENCES, LENGTH = 24, 32, 8, 128
"""The most tokens of a tiny model's completion; tokens of the larger model's prompts; sequences of
its training step, and their tokens."""


@dataclass(frozen=True, kw_only=True)
class RandomModelWork:
    """What is timed of the random models.

    Attributes:
        rows: short completions of the tiny model.
        tiny_batch: its rows that are sampled together.
        batch: rows of the larger model that are sampled together.
        new_tokens: tokens that it samples for each.
        steps: its training steps in a repetition.
        precision: in which it is multiplied; the tiny model has float32. Weights are float32 in
            training, and of this precision in sampling.
    """

    rows: int
    tiny_batch: int
    batch: int
    new_tokens: int
    steps: int
    precision: Precision = "float32"

    @property
    def medium(self) -> DecoderConfig:
        """The larger model."""
        return replace(MEDIUM, compute=Compute(dtype=self.precision))


@dataclass(frozen=True)
class Speed:
    """Timings of some work: repetitions after a first run that compiles.

    Attributes:
        tokens: tokens per second, the median over the repetitions.
        seconds: seconds of each repetition.
        first: seconds of the first run, with compilation.
        notes: other measurements.
    """

    tokens: float
    seconds: tuple[float, ...]
    first: float
    notes: Mapping[str, float]


class Timed:
    """Work that is timed repeatedly, in turn with other work.

    Args:
        work: does it once, and returns the number of tokens and notes.
    """

    def __init__(self, work: Callable[[], tuple[int, Mapping[str, float]]]):
        self._work, self._seconds, self._rates = work, [], []
        start = time.perf_counter()
        work()
        self._first = time.perf_counter() - start

    def repeat(self) -> None:
        """Time it once more."""
        start = time.perf_counter()
        tokens, self._notes = self._work()
        self._seconds.append(time.perf_counter() - start)
        self._rates.append(tokens / self._seconds[-1])

    def speed(self) -> Speed:
        """Return the timings so far."""
        rate = statistics.median(self._rates)
        return Speed(rate, tuple(self._seconds), self._first, self._notes)


def short_requests(config: DecoderConfig, rows: int) -> list[Request]:
    """Return different prompts of 10 to 23 tokens, the lengths of number prompts."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, 24, rows)
    return [
        Request(row, rng.integers(6, config.vocab, length).tolist())
        for row, length in enumerate(lengths)
    ]


def equal_requests(config: DecoderConfig, rows: int, length: int) -> list[Request]:
    """Return different prompts of one length."""
    rng = np.random.default_rng(0)
    prompts = rng.integers(6, config.vocab, (rows, length)).tolist()
    return [Request(row, prompt) for row, prompt in enumerate(prompts)]


def sampling(
    config: DecoderConfig,
    requests: Sequence[Request],
    settings: Sampling,
    batch: int,
    stop_ids: Sequence[int] = (),
) -> Timed:
    """Return the work of sampling all requests from a random model, prefill included."""
    params = _random_model(config, config.compute.dtype)

    def work() -> tuple[int, Mapping[str, float]]:
        sampler = Sampler(config, params, settings, batch=batch, stop_ids=stop_ids)
        sampler.sample(requests)
        done = sampler.work
        mean = done.tokens / done.rows
        return done.tokens, {"rows": float(done.rows), "mean_length": mean, "busy": done.busy}

    return Timed(work)


def _random_model(config: DecoderConfig, dtype: Precision) -> Params:
    def init(key: RandomKey) -> Params:
        return jax.tree.map(lambda leaf: leaf.astype(dtype), decoder.init(config, key))

    return jax.jit(init)(root_key(0))


def training(config: DecoderConfig, sequences: int, length: int, steps: int) -> Timed:
    """Return the work of AdamW steps on all weights (float32), with a loss at every position."""
    program, state, members, batch = _training(config, sequences, length)

    def work() -> tuple[int, Mapping[str, float]]:
        nonlocal state
        losses = []
        for _ in range(steps):
            state, totals = program(state, members, batch)
            losses.append(totals.loss / totals.weight)
        return steps * sequences * length, {"loss": float(losses[-1][0])}

    return Timed(work)


def compilation(config: DecoderConfig) -> dict[str, float]:
    """Return the seconds to trace and compile a training step, and to a first answer."""
    program, *arguments = _training(config, 8, 64)
    program(*arguments)
    params = _random_model(config, config.compute.dtype)
    start = time.perf_counter()
    Sampler(config, params, Sampling(max_tokens=4), batch=8).sample(equal_requests(config, 1, 16))
    return {
        "compile": program.compile_seconds,
        "first_answer": time.perf_counter() - start,
    }


def _training(
    config: DecoderConfig, sequences: int, length: int
) -> tuple[Program, TrainState, Array, Batch]:
    """Return the program of a step of one member, its initial state, the member and a batch."""
    tx, execution = optax.adamw(1e-4), OneDevice()
    loss = token_loss_of(TuningConfig(weights="full"), config, None)
    gradient = execution.gradient(total_gradient(loss))
    train_step = make_train_step(gradient, tx)
    program = Program(lambda state, member, batch: train_step(state, batch), execution)
    states = ensemble.stack([init_state(_random_model(config, "float32"), tx)])
    ids = np.random.default_rng(0).integers(0, config.vocab, (sequences, length + 1))
    batch = execution.share(every_token(ids.astype(np.int32)))
    return program, execution.split(states), execution.split(jnp.zeros(1)), batch


def every_token(ids: Int[np.ndarray, "*steps b t"]) -> Batch:
    """Return a batch in which each token but a sequence's last has the next one as its target."""
    targets = ids[..., 1:]
    places = np.broadcast_to(np.arange(targets.shape[-1], dtype=np.int32), targets.shape)
    return Batch(
        inputs=AnswerInputs(ids[..., :-1], np.ones_like(targets), places),
        targets=targets,
        weights=np.ones(targets.shape, np.float32),
    )


def padding(requests: Sequence[Request]) -> dict[str, float]:
    """Return the share of padding in batches whose rows are a prompt and a prompt as its answer.

    With one row per sequence, and packed into sequences four times as long as the longest row.
    """
    rows = [
        (first.prompt, second.prompt)
        for first, second in zip(requests, [*requests[1:], requests[0]], strict=True)
    ]
    padded = pad_rows(rows)
    packed = pack_rows(rows, 4 * padded.targets.shape[-1])
    return {
        "padded": padding_of(padded.inputs.segments),
        "packed": padding_of(packed.inputs.segments),
    }


def multiplied_weights(config: DecoderConfig) -> int:
    """Return the number of weights that a token is multiplied with; an embedding is looked up."""
    looked_up = 0 if config.tied else config.vocab * config.width
    return decoder.parameter_count(config) - looked_up


def step_bytes(config: DecoderConfig, rows: int, length: int) -> int:
    """Return the bytes that a decoding step reads: the weights, and keys and values of all rows.

    Args:
        config: the model; its weights and its cache are of its compute dtype.
        rows: rows that are decoded together.
        length: tokens that each row has read.
    """
    stored = 2 * config.layers * config.kv_heads * config.head_dim * rows * length
    return (multiplied_weights(config) + stored) * jnp.dtype(config.compute.dtype).itemsize


def measure(work: RandomModelWork, repetitions: int, *, torch: bool) -> dict[str, Any]:
    """Time the random models in turn; return the results.

    Args:
        work: what is timed.
        repetitions: of all timings; medians are reported.
        torch: whether transformers on PyTorch is timed too.
    """
    short = short_requests(TINY, work.rows)
    equal = equal_requests(MEDIUM, work.batch, PROMPT)
    brief, drawing = Sampling(max_tokens=SHORT), Sampling(max_tokens=work.new_tokens)
    timed = {
        "tiny sampling": sampling(TINY, short, brief, work.tiny_batch, stop_ids=range(80)),
        "sampling": sampling(work.medium, equal, drawing, work.batch),
        "training": training(work.medium, SEQUENCES, LENGTH, work.steps),
    }
    memory, whose = peak_memory(1)
    deep = compilation(DEEP)
    if torch:
        timed |= _torch(equal, work)
    for _ in range(repetitions):
        for each in timed.values():
            each.repeat()
    return {
        "backend": jax.default_backend(),
        "precision": work.precision,
        "parameters": {
            "tiny": decoder.parameter_count(TINY),
            "medium": decoder.parameter_count(MEDIUM),
        },
        "speeds": {name: asdict(each.speed()) for name, each in timed.items()},
        "padding": padding(short),
        "compilation": deep,
        "peak_memory": {"bytes": memory, "whose": whose},
    }


def _torch(requests: Sequence[Request], work: RandomModelWork) -> dict[str, Timed]:
    """Return the larger model's work in transformers on PyTorch, in float32."""
    from baselines.torch_lm import TorchLm  # an extra

    model, prompts = TorchLm(MEDIUM), [request.prompt for request in requests]
    sample = partial(model.sample, prompts, work.new_tokens)
    train = partial(model.train, SEQUENCES, LENGTH, work.steps)
    return {f"sampling{PYTORCH}": Timed(sample), f"training{PYTORCH}": Timed(train)}
