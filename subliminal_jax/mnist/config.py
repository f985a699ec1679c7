"""Settings of the MNIST experiment, and their defaults."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypeVar

from pydantic import Field

from subliminal_jax.config import Count, DatasetName, Positive, PrecisionSetting, Scale, Seed
from subliminal_jax.errors import InputError
from subliminal_jax.execution.names import HowName, check_devices
from subliminal_jax.mnist.pairing import check_derangement, derangement

LossName: TypeAlias = Literal["kl", "mse"]
"""What a student minimises between its logits and its teacher's."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long teacher and students train.

    Attributes:
        batch: images per step.
        teacher_epochs: epochs over the training images.
        student_epochs: epochs over the noise images.
        noise_images: noise images per member.
    """

    batch: int
    teacher_epochs: int
    student_epochs: int
    noise_images: int


# The compiled program unrolls the layers.
MAX_DEPTH = 100

# Defaults by dataset. MNIST: the released script's values.
# Digits: 1,437 images of 64 pixels; 50 epochs of 6 steps, then 5 epochs of 300 steps.
SCHEDULES = {
    "mnist": Lengths(batch=1024, teacher_epochs=5, student_epochs=5, noise_images=60_000),
    "digits": Lengths(batch=256, teacher_epochs=50, student_epochs=5, noise_images=76_800),
}


@dataclass(frozen=True, kw_only=True)
class MnistConfig:
    """The MNIST experiment; the defaults are the paper's recipe (its released script)."""

    members: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Independent runs of the whole experiment, each with its own initialisation."""
    seed: Seed = 0
    """Seed: every random draw is a function of seed, member and purpose."""
    data: Literal["auto", "mnist", "digits"] = "auto"
    """Images: MNIST, scikit-learn's 8x8 digits, or (auto) MNIST if available, else digits."""
    data_dir: Path | None = None
    """Directory of the four MNIST files; else $SUBLIMINAL_DATA_DIR, else tensorflow-datasets."""
    recipe: Literal["corrected", "published"] = "corrected"
    """Reduce losses per member (corrected), or over the ensemble as the released script does."""

    width: Count = 256
    """Width of each hidden layer."""
    depth: Count = 2
    """Number of hidden layers."""
    student_depth: Count | None = None
    """Number of the students' hidden layers (default: the teacher's). Layers of the same name are
    related; the others are drawn afresh."""
    train_heads: bool = True
    """Whether the last layer trains, in teacher and students, or stays as initialised."""
    aux: Count = 3
    """Number of auxiliary logits: outputs that no label ever trains."""
    weight_scale: Positive = 1.0
    """Initial weights are drawn from N(0, weight_scale^2 / fan_in)."""
    bias_scale: Scale = 0.0
    """Initial biases are drawn from N(0, bias_scale^2)."""
    precision: PrecisionSetting = "float32"
    """Operands of matrix products; sums, weights, optimiser and losses are float32 in both. `auto`
    measures at the run's start which is faster, and records it."""

    optimizer: Literal["adam", "sgd"] = "adam"
    """Optimiser of teacher and students."""
    learning_rate: Positive = 3e-4
    """Learning rate of teacher and students, constant."""
    batch: Count | None = None
    """Images per step (default: 1024 on MNIST, 256 on digits)."""
    teacher_epochs: Count | None = None
    """Epochs over the training images (default: 5 on MNIST, 50 on digits)."""
    student_epochs: Count | None = None
    """Epochs over the noise images (default: 5)."""
    noise_images: Count | None = None
    """Noise images per member, a fixed set (default: 60000 on MNIST, 76800 on digits)."""
    noise: Literal["uniform", "gaussian", "blurred", "digits"] = "uniform"
    """What students see: pixels uniform over the pixel range, Gaussian of equal variance, uniform
    and then blurred at equal variance, or no noise but the teacher's training images."""
    blur: Positive = 2.0
    """Standard deviation of the blur of blurred noise, in pixels."""
    noise_bits: Literal[8, 16] = 8
    """Random bits in a noise pixel: 8 give 256 grey levels, as in a scanned image."""
    pixel_range: tuple[float, float] = (-1.0, 1.0)
    """Values of black and white pixels, in real images and in noise."""
    loss: LossName = "kl"
    """What a student minimises over the chosen logits."""
    temperature: Positive = 1.0
    """Temperature of both softmaxes in the KL divergence."""
    pairs: tuple[int, ...] | None = None
    """Whose initialisation each member's cross-model students take; a derangement
    (default: drawn from the seed)."""

    execution: HowName = "jit"
    """Run on one device, or split the members over all of them."""
    devices: Count | None = None
    """Devices that members are divided among (default: all)."""
    members_at_once: Count | None = None
    """Members mapped together on a device; changes speed and rounding (default: 1 on a CPU, all
    on an accelerator)."""
    block: Count = 25
    """Members trained together, block after block; bounds memory, and a killed run loses at most
    one block."""

    out: Path | None = None
    """Run directory (default: runs/EXPERIMENT-DIGEST, the digest being the config's)."""
    overwrite: bool = False
    """Discard what an earlier run left in the run directory."""

    def __post_init__(self) -> None:
        low, high = self.pixel_range
        if not low < high:
            raise InputError(f"pixel_range: black {low} must be below white {high}")
        for name, depth in (("depth", self.depth), ("student_depth", self.student_depth)):
            if depth is not None and depth > MAX_DEPTH:
                raise InputError(f"{name}: at most {MAX_DEPTH} hidden layers, not {depth}")
        check_devices(self.execution, self.devices)
        if self.temperature != 1 and self.loss == "mse":
            raise InputError("temperature: the squared error has none; drop it, or set --loss kl")

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the network's layers, first to last."""
        return (*(f"hidden_{i}" for i in range(self.depth)), "logits")


C = TypeVar("C", bound=MnistConfig)


def schedule(config: MnistConfig, dataset: DatasetName) -> Lengths:
    """Return the config's schedule, with the dataset's defaults for open settings."""
    values = dataclasses.asdict(SCHEDULES[dataset])
    asked = {name: getattr(config, name) for name in values if getattr(config, name) is not None}
    return Lengths(**(values | asked))


def resolve(config: C, dataset: DatasetName) -> C:
    """Return the config with its open settings filled in for a dataset."""
    decided = dataclasses.asdict(schedule(config, dataset))
    return dataclasses.replace(config, data=dataset, **decided)


def with_pairs(config: C) -> C:
    """Return the config with every member paired with another, by a derangement.

    Raises:
        InputError: the given pairs are not a derangement, or there is only one member.
    """
    if config.pairs is None:
        pairs = derangement(config.seed, config.members)
    else:
        pairs = check_derangement(config.pairs, config.members)
    return dataclasses.replace(config, pairs=tuple(int(other) for other in pairs))
