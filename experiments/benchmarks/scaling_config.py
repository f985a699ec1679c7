"""Settings of the benchmark of scaling."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from subliminal_jax.config import Count, Natural, Positive, Precision
from subliminal_jax.errors import InputError
from subliminal_jax.models.decoder.config import AttentionName


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """The model, the batch, and the executions."""

    vocab: Count = 256
    width: Count = 64
    layers: Count = 2
    heads: Count = 4
    kv_heads: Count = 2
    head_dim: Annotated[int, Field(ge=2, multiple_of=2)] = 16
    mlp_width: Count = 128
    rank: Natural = 0
    """Rank of low-rank weights on a frozen model; 0 trains all weights."""
    dtype: Precision = "float32"
    """Type of weights and activations."""
    attention: AttentionName = "xla"
    """How attention is computed; cudnn needs bfloat16 and an NVIDIA GPU."""
    remat: bool = False
    """Recompute layers in the backward pass."""
    batch: Count = 16
    """Sequences in the global batch."""
    sequence: Count = 32
    """Tokens in a sequence."""
    accumulate: Count = 1
    """Parts of a device's sequences, computed one after the other."""
    executions: tuple[Literal["jit", "pmap", "mesh"], ...] = ("jit", "pmap", "mesh")
    """Executions of the step."""
    devices: tuple[Count, ...] = ()
    """Device counts for pmap and the mesh, such as 1 2 4 8 (default: all there are)."""
    data: Count | None = None
    """Mesh: copies of the state (default: what the devices allow)."""
    fsdp: Count = 1
    """Mesh: parts of the state."""
    tensor: Count = 1
    """Mesh: parts of each layer."""
    steps: Count = 4
    """Steps in a timed program."""
    repetitions: Count = 3
    """Timed repetitions."""
    peak_tflops: Positive | None = None
    """Peak of a device, to compute the share used (default: as published, in bfloat16)."""
    memory_gb: Positive | None = None
    """Memory of a device, to say whether a plan fits."""
    all_hosts: bool = False
    """Join the other hosts, even if no environment variable implies any."""
    plan: bool = False
    """Print what each device holds and needs, and run nothing."""
    topology: str | None = None
    """Plan for the TPU slice of this name, such as v5e:4x4, which need not be present."""

    def __post_init__(self) -> None:
        if not self.executions:
            raise InputError("executions: give at least one of jit, pmap, mesh")
        if self.topology is not None and self.devices:
            raise InputError("devices: a topology fixes their number; give one of the two")
        if self.topology is not None and not (self.plan and self.executions == ("mesh",)):
            raise InputError(
                f"topology: {self.topology} is not present, only plans can use it; add --plan "
                "--executions mesh"
            )
