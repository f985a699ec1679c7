"""The six-arm MNIST experiment's steps in eager PyTorch on a CPU, to time ours against.

The released script's form: the weights of all members are stacked, [M, inputs, outputs], and a
layer is one batched product. With what our own program saves: a step's noise is fetched once and
shared by a member's students, noise is kept as bytes, the teachers' logits are computed once, and
Adam is fused. `torch_released` is without. Under autocast, products have bfloat16 operands.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from subliminal_jax.data.epoch_order import steps_per_epoch
from subliminal_jax.data.images import ImageData
from subliminal_jax.mnist.config import MnistConfig, schedule
from subliminal_jax.mnist.study import TEST_BATCH
from subliminal_jax.models import mlp

KEPT = 8  # batches of noise that are kept: of the same speed as all of them, in less memory
OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


class Networks:
    """One network of each member, and its optimiser."""

    def __init__(self, params: Mapping[str, Any], config: MnistConfig):
        """Start from stacked parameters, `{layer: {"kernel": [M, i, o], "bias": [M, o]}}`."""
        self.layers = [
            (torch.tensor(params[name]["kernel"]), torch.tensor(params[name]["bias"])[:, None])
            for name in config.layers
        ]
        leaves = [leaf.requires_grad_() for layer in self.layers for leaf in layer]
        make = OPTIMIZERS[config.optimizer]
        self.optimizer = make(leaves, lr=config.learning_rate, fused=True)

    def logits(self, images: Tensor) -> Tensor:
        """All logits, `[M, B, D]` to `[M, B, K]`."""
        *hidden, last = self.layers
        for weights, biases in hidden:
            images = torch.baddbmm(biases, images, weights).relu_()
        return torch.baddbmm(last[1], images, last[0])

    def train_step(self, loss: Callable[[Tensor], Tensor], images: Tensor) -> None:
        """One step down the loss of the logits on some images."""
        self.optimizer.zero_grad()
        loss(self.logits(images)).backward()
        self.optimizer.step()


class AutocastNetworks(Networks):
    """One network of each member, whose products round their operands to bfloat16."""

    def logits(self, images: Tensor) -> Tensor:
        """All logits, `[M, B, D]` to `[M, B, K]`, in float32."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().logits(images).float()


def cross_entropy(logits: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Each member's mean cross-entropy on its class logits, summed over members."""
    flat = logits[..., :classes].flatten(0, 1)
    return F.cross_entropy(flat, labels.flatten(), reduction="sum") / labels.shape[1]


def kl_divergence(logits: Tensor, targets: Tensor, chosen: slice) -> Tensor:
    """Each member's mean KL divergence over the chosen logits, summed over members."""
    log_q, log_p = logits[..., chosen].log_softmax(-1), targets[..., chosen].log_softmax(-1)
    return F.kl_div(log_q, log_p, reduction="sum", log_target=True) / logits.shape[1]


class TorchBaseline:
    """Steps of every phase for a block of members, timed; and what the whole run would take."""

    form = "lean"
    networks = Networks

    def __init__(
        self, config: MnistConfig, network: mlp.MlpConfig, data: ImageData, chosen: Sequence[str]
    ):
        """Prepare the networks of one block.

        Args:
            config: the experiment's.
            network: of teachers and students.
            data: the images.
            chosen: which logits each student imitates, "aux" or "all".
        """
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.config, self.network, self.schedule = config, network, schedule(config, data.name)
        self.members = min(config.members, config.block)
        self.chosen = [slice(network.classes if name == "aux" else 0, None) for name in chosen]
        self.reference, self.teacher = self._fresh(), self._fresh()
        self.students = [self._fresh() for _ in chosen]
        self.train = torch.tensor(data.train_images), torch.tensor(data.train_labels).long()
        self.test = torch.tensor(data.test_images[:TEST_BATCH])
        kept = self.members * KEPT * self.schedule.batch
        noise = torch.randint(0, 256, (kept, network.inputs), dtype=torch.uint8)
        self.noise = self._kept_noise(noise)
        self.teacher_logits = torch.randn(kept, network.classes + network.aux)
        self.white = data.white

        epoch = steps_per_epoch(len(data.train_labels), self.schedule.batch)
        noise_epoch = steps_per_epoch(self.schedule.noise_images, self.schedule.batch)
        self.steps = {
            "teach": self.schedule.teacher_epochs * epoch,
            "label": noise_epoch,
            "distill": self.schedule.student_epochs * noise_epoch,
            "evaluate": steps_per_epoch(len(data.test_labels), TEST_BATCH),
        }
        self.timed: dict[str, list[float]] = {phase: [] for phase in self.steps}

    def measure(self, phase: str, steps: int) -> None:
        """Time some steps of a phase, after one that is not timed."""
        step = {
            "teach": self.teach,
            "label": self.label,
            "distill": self.distill,
            "evaluate": self.evaluate,
        }[phase]
        step()
        for _ in range(steps):
            start = time.perf_counter()
            step()
            self.timed[phase].append(time.perf_counter() - start)

    def summary(self) -> dict[str, Any]:
        """What the whole run would take, all members: each phase's mean step times its steps."""
        blocks = self.config.members / self.members
        seconds = {
            phase: blocks * self.steps[phase] * sum(timed) / len(timed)
            for phase, timed in self.timed.items()
        }
        counts = ", ".join(f"{len(timed)} of {phase}" for phase, timed in self.timed.items())
        return {
            "what": f"PyTorch {torch.__version__} ({self.form}), "
            f"{torch.get_num_threads()} threads, {self.members} members stacked: steps timed in "
            f"between, after one untimed each time, and scaled to the whole run: {counts}",
            "seconds": seconds | {"whole run": sum(seconds.values())},
            "step_seconds": self.timed,
        }

    def teach(self) -> None:
        """One step of all teachers on real images, each member's own."""
        pixels, labels = self.train
        which = torch.randint(0, len(labels), (self.members * self.schedule.batch,))
        images = self._stacked(self._scaled(pixels.index_select(0, which), self.white))
        labels = self._stacked(labels.index_select(0, which))
        self.teacher.train_step(
            lambda logits: cross_entropy(logits, labels, self.network.classes), images
        )

    @torch.no_grad()
    def label(self) -> None:
        """Draw one batch of every member's noise, and keep it and its teacher's logits."""
        count = self.members * self.schedule.batch
        words = torch.empty(-(-count * self.network.inputs // 8), dtype=torch.int64)
        words.random_(-(2**63), None)  # eight pixels a draw
        noise = words.view(torch.uint8)[: count * self.network.inputs].view(count, -1)
        logits = self.teacher.logits(self._stacked(self._levels(noise)))
        self.noise[:count], self.teacher_logits[:count] = noise, logits.flatten(0, 1)

    def distill(self) -> None:
        """One step of every arm's students, all on the same noise."""
        which = self._which_noise()
        images = self._stacked(self._levels(self.noise.index_select(0, which)))
        targets = self._stacked(self.teacher_logits.index_select(0, which))
        for student, chosen in zip(self.students, self.chosen, strict=True):
            student.train_step(
                lambda logits, chosen=chosen: kl_divergence(logits, targets, chosen), images
            )

    @torch.no_grad()
    def evaluate(self) -> None:
        """The answers of all networks to one batch of test images."""
        images = self._scaled(self.test, self.white).expand(self.members, -1, -1)
        for networks in (self.reference, self.teacher, *self.students):
            networks.logits(images)[..., : self.network.classes].argmax(-1)

    def _kept_noise(self, noise: Tensor) -> Tensor:
        return noise

    def _which_noise(self) -> Tensor:
        """A batch of each member's own noise, for all members in one gather."""
        batch = self.schedule.batch
        which = torch.randint(0, KEPT * batch, (self.members, batch))
        return (which + torch.arange(self.members)[:, None] * KEPT * batch).flatten()

    def _fresh(self) -> Networks:
        params = {}
        widths = self.network.widths
        for name, fan_in, width in zip(self.config.layers, widths, widths[1:], strict=False):
            kernel = torch.randn(self.members, fan_in, width) * fan_in**-0.5
            bias = torch.zeros(self.members, width)
            params[name] = {"kernel": kernel.numpy(), "bias": bias.numpy()}
        return self.networks(params, self.config)

    def _stacked(self, rows: Tensor) -> Tensor:
        return rows.unflatten(0, (self.members, -1))

    def _scaled(self, pixels: Tensor, white: int) -> Tensor:
        low, high = self.config.pixel_range
        return pixels.float().mul_((high - low) / white).add_(low)

    def _levels(self, noise: Tensor) -> Tensor:
        low, high = self.config.pixel_range
        return noise.float().add_(0.5).mul_((high - low) / 256).add_(low)


class AutocastBaseline(TorchBaseline):
    """Steps of every phase in the lean form under autocast, timed."""

    form = "autocast"
    networks = AutocastNetworks
