"""How a decoder's training step scales: memory ahead of time, time, and bytes between devices."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.language import every_token, multiplied_weights
from benchmarks.scaling_config import ScalingConfig
from subliminal_jax.batch import Batch, Params
from subliminal_jax.errors import InputError
from subliminal_jax.execution.hlo import COLLECTIVES, written_bytes
from subliminal_jax.execution.mesh import (
    described_devices,
    line_of_devices,
    make_mesh,
    path_name,
)
from subliminal_jax.execution.mesh_execution import OnMesh
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.execution.pmap import DataParallel
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.keys import root_key
from subliminal_jax.language.settings import TuningConfig
from subliminal_jax.language.training import trainable
from subliminal_jax.models.decoder import decoder, forms
from subliminal_jax.models.decoder.config import Compute, DecoderConfig
from subliminal_jax.models.decoder.sharding import DECODER_RULES
from subliminal_jax.train import GradFn, Totals, init_state, make_train_step, total_gradient

SHOWN = 12  # leaves in a plan
PEAKS = {
    **{"TPU v6 lite": 918.0, "TPU v5 lite": 197.0, "TPU v5": 459.0, "TPU v4": 275.0},
    **{"B200": 2250.0, "H200": 989.0, "H100": 989.0, "A100": 312.0},
}
"""TFLOP/s of a device, bfloat16 without sparsity, from the makers' data sheets."""
State: TypeAlias = dict[str, Any]
"""`trained`, a `TrainState`; with low-rank weights also `base`, which is frozen."""
TrainStep: TypeAlias = Callable[[State, Batch], tuple[State, Totals]]
WEIGHTS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training on random tokens, to measure its cost.

    Attributes:
        config: the decoder.
        rank: rank of low-rank weights on a frozen decoder; 0 to train all weights.
        sequence: tokens in a sequence.
        apart: whether the frozen decoder's layers are, as on one GPU.
    """

    config: DecoderConfig
    rank: int
    sequence: int
    apart: bool = False

    @property
    def tuning(self) -> TuningConfig:
        """Which weights are trained."""
        if not self.rank:
            return TuningConfig(weights="full")
        return TuningConfig(weights="lora", rank=self.rank)

    @property
    def tx(self) -> optax.GradientTransformation:
        """The optimiser of the trained weights."""
        return optax.adam(1e-4)

    def init(self) -> State:
        """Return a state with random weights."""
        base = decoder.init(self.config, root_key(0))
        dtype = WEIGHTS[self.config.compute.dtype]
        base = jax.tree.map(lambda leaf: leaf.astype(dtype), base)
        if self.rank and self.apart:
            base = forms.layers_apart(base)
        trained = trainable.begin(self.tuning, self.config, base, root_key(1))
        state = {"trained": init_state(trained, self.tx)}
        return state | ({"base": base} if self.rank else {})

    def members(self) -> State:
        """Return the state of a single member, `[1, ...]`."""
        return jax.tree.map(lambda leaf: leaf[None], self.init())

    def gradient(self, weights: Params, batch: Batch) -> tuple[Params, Totals]:
        """Return the gradient with respect to the trained weights only."""
        loss = trainable.token_loss_of(self.tuning, self.config, weights.get("base"))
        return total_gradient(loss)(weights["trained"], batch)

    def make_step(self, gradient: GradFn) -> TrainStep:
        """Return the training step of the trained part of the state."""

        def step(state: State, batch: Batch) -> tuple[State, Totals]:
            own = lambda trained, batch: gradient(state | {"trained": trained}, batch)
            trained, totals = make_train_step(own, self.tx)(state["trained"], batch)
            return state | {"trained": trained}, totals

        return step

    def chunk(self, rows: int, steps: int) -> Batch:
        """Return batches of random tokens, with a loss at each."""
        shape = (steps, rows, self.sequence + 1)
        tokens = np.random.default_rng(0).integers(0, self.config.vocab, shape, np.int32)
        return every_token(tokens)

    def compile(self, execution: Execution, state: Any, member: Any, chunk: Any) -> Any:
        """Compile the program of a chunk of steps."""

        def run(state: State, member: Any, chunk: Batch) -> tuple[State, Totals]:
            return jax.lax.scan(self.make_step(execution.gradient(self.gradient)), state, chunk)

        return execution.compile(run, state, member, chunk)

    def flop(self, batch: int) -> float:
        """Return the useful FLOP of one step (Kaplan et al. 2020, appendix B, and attention).

        Two per weight and token forward; twice that backward, or once if the weights are frozen.
        The embedding is a look-up. Attention: two products of `[T, T]` with every head's dimension.
        """
        config, tokens = self.config, batch * self.sequence
        weights = multiplied_weights(config)
        attention = 2 * config.layers * config.heads * config.head_dim * self.sequence
        passes = 2 if self.rank else 3
        return float(tokens * passes * (2 * weights + 2 * attention))


def job_of(config: ScalingConfig) -> Job:
    """Return the training whose step is measured."""
    names = ("vocab", "width", "layers", "heads", "kv_heads", "head_dim", "mlp_width")
    shape = {name: getattr(config, name) for name in names}
    compute = Compute(dtype=config.dtype, remat=config.remat, attention=config.attention)
    model = DecoderConfig(**shape, context=config.sequence, compute=compute)
    return Job(config=model, rank=config.rank, sequence=config.sequence)


def executions_of(config: ScalingConfig) -> Iterator[tuple[str, Execution]]:
    """Yield every execution, with its name and sizes, on every device count in the config.

    Raises:
        InputError: there are fewer devices, they do not fit the mesh, or a count is given on
            several hosts.
    """
    if config.devices and jax.process_count() > 1:
        raise InputError("devices: several hosts use all their devices; leave it out")
    for name in config.executions:
        for count in config.devices if name != "jit" and config.devices else (None,):
            execution = execution_of(config, name, count)
            yield f"{name} on {described(execution)}", execution


def execution_of(
    config: ScalingConfig, name: str, count: int | None = None
) -> OneDevice | DataParallel | OnMesh:
    """Return one execution, on the first `count` devices or all; jit has one device."""
    if name == "jit":
        return OneDevice(parts=config.accumulate)
    if name == "pmap":
        return DataParallel(mesh=line_of_devices(count), accumulate=config.accumulate)
    if config.topology is not None:
        devices = described_devices(config.topology)
    else:
        devices = list(line_of_devices(count).devices.flat)
    mesh = make_mesh(config.data, config.fsdp, config.tensor, devices=devices)
    return OnMesh(mesh=mesh, rules=DECODER_RULES, accumulate=config.accumulate)


def described(execution: OneDevice | DataParallel | OnMesh) -> str:
    """Return the devices of an execution as text, such as `data=4 x fsdp=2 x tensor=1`."""
    if isinstance(execution, OneDevice):
        return "one device"
    return " x ".join(f"{name}={size}" for name, size in execution.mesh.shape.items())


def peak_tflops(kind: str) -> float | None:
    """Return a device's published bfloat16 peak, by its reported name; None if unknown."""
    return next((peak for name, peak in PEAKS.items() if name in kind), None)


def plan(job: Job, execution: Execution, batch: int) -> dict[str, Any]:
    """Return what a step needs on each device, without allocating anything.

    The state's bytes are exact, from its shapes and shardings. The temporary memory of the step is
    what the compiler reports for the devices that the plan was compiled for.

    Raises:
        InputError: the batch does not split over the devices.
    """
    state = execution.split(jax.eval_shape(job.members))
    leaves = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        spec = str(getattr(leaf.sharding, "spec", "whole"))
        shape = (leaf.shape, str(leaf.dtype), spec)
        leaves[path_name(path)] = (*shape, _bytes_on_a_device(leaf))
    chunk = execution.spread(jax.eval_shape(lambda: job.chunk(batch, 1)), axis=1)
    member = execution.split(jax.ShapeDtypeStruct((1,), np.float32))
    memory: Any = job.compile(execution, state, member, chunk).memory_analysis()
    return {
        "leaves": leaves,
        "state_bytes": sum(each for *_, each in leaves.values()),
        "temporary_bytes": int(memory.temp_size_in_bytes),
    }


def trained(job: Job, execution: Execution, batch: int, steps: int) -> tuple[Any, Any]:
    """Return the trained weights and every step's totals, on the host, of a single member."""
    state = execution.make(job.members)
    chunk = execution.spread(job.chunk(batch, steps), axis=1)
    member = execution.split(np.zeros(1, np.float32))
    program = job.compile(execution, state, member, chunk)
    state, totals = program(state, member, chunk)
    return execution.fetch((state["trained"].params, totals))


def _bytes_on_a_device(leaf: Any) -> int:
    return int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize


def measure(
    job: Job, execution: Execution, batch: int, steps: int, repetitions: int
) -> dict[str, Any]:
    """Return the seconds of a step, the bytes that its program moves, and its planned memory.

    Raises:
        InputError: the batch does not split over the devices.
    """
    state = execution.make(job.members)
    chunk = execution.spread(job.chunk(batch, steps), axis=1)
    member = execution.split(np.zeros(1, np.float32))
    program = job.compile(execution, state, member, chunk)
    written = written_bytes(program.as_text() or "")
    memory: Any = program.memory_analysis()
    held = sum(_bytes_on_a_device(leaf) for leaf in jax.tree.leaves(state))
    state, _ = program(state, member, chunk)
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        state, totals = program(state, member, chunk)
        jax.block_until_ready((state, totals))
        seconds.append((time.perf_counter() - start) / steps)
    moved = sum(written[kind] for kind in COLLECTIVES)
    return {
        "seconds": statistics.median(seconds),
        "moved_bytes": moved / steps,
        "share": moved / max(written["all"], 1),
        "collectives": {kind: written[kind] / steps for kind in COLLECTIVES},
        "flop": job.flop(batch),
        "planned_bytes": held + int(memory.temp_size_in_bytes),
    }


def line(measured: dict[str, Any], devices: int, peak_tflops: float | None) -> str:
    """Return the measurements as one line."""
    text = (
        f"{1e3 * measured['seconds']:.2f} ms a step, {measured['moved_bytes'] / 1e6:.2f} MB moved "
        f"by each device ({measured['share']:.1%} of the bytes it writes)"
    )
    rate = measured["flop"] / measured["seconds"] / devices / 1e12
    text += f", {rate:.3f} useful TFLOP/s a device"
    return text if peak_tflops is None else f"{text}, {rate / peak_tflops:.1%} of its peak"


def plan_lines(planned: dict[str, Any], memory_gb: float | None) -> list[str]:
    """Return what each device holds and needs, as text."""
    largest = sorted(planned["leaves"].items(), key=lambda leaf: -leaf[1][-1])
    lines = [
        f"{name}: {'x'.join(map(str, shape)) or 'a number'} {dtype} {spec}, {each / 1e6:,.3f} MB"
        for name, (shape, dtype, spec, each) in largest[:SHOWN]
    ]
    lines.append(f"and {len(largest[SHOWN:])} smaller leaves")
    state, temporary = planned["state_bytes"] / 1e9, planned["temporary_bytes"] / 1e9
    total = f"each device: state {state:.2f} GB, and {temporary:.2f} GB while a step runs"
    if memory_gb is not None:
        fits = "fits" if state + temporary <= memory_gb else "does not fit"
        total += f"; {fits} into {memory_gb:g} GB"
    return [*lines, total]
