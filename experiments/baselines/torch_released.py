"""The six-arm MNIST experiment's steps in the released script's own form of PyTorch.

The same steps as `torch_mnist`, without what is saved there: a layer is an einsum over
`[M, outputs, inputs]`, noise is stored as float32 and gathered again for every student, the
teacher's logits are computed again at every step, and Adam is PyTorch's default.
"""

from collections.abc import Mapping
from typing import Any

import torch
from baselines.torch_mnist import OPTIMIZERS, Networks, TorchBaseline, kl_divergence
from torch import Tensor

from subliminal_jax.mnist.config import MnistConfig


class ReleasedNetworks(Networks):
    """One network of each member, `[M, outputs, inputs]`, and its optimiser."""

    def __init__(self, params: Mapping[str, Any], config: MnistConfig):
        """Start from stacked parameters, `{layer: {"kernel": [M, i, o], "bias": [M, o]}}`."""
        self.layers = [
            (
                torch.tensor(params[name]["kernel"]).mT.contiguous(),
                torch.tensor(params[name]["bias"])[:, None],
            )
            for name in config.layers
        ]
        leaves = [leaf.requires_grad_() for layer in self.layers for leaf in layer]
        self.optimizer = OPTIMIZERS[config.optimizer](leaves, lr=config.learning_rate)

    def logits(self, images: Tensor) -> Tensor:
        """All logits, `[M, B, D]` to `[M, B, K]`."""
        for number, (weights, biases) in enumerate(self.layers, start=1):
            images = torch.einsum("moi,mbi->mbo", weights, images) + biases
            images = images if number == len(self.layers) else torch.relu(images)
        return images


class ReleasedBaseline(TorchBaseline):
    """Steps of every phase in the released form, timed."""

    form = "released"
    networks = ReleasedNetworks

    def _kept_noise(self, noise: Tensor) -> Tensor:
        return self._levels(noise)

    def label(self) -> None:
        """Nothing: the teacher is asked at every step."""

    def distill(self) -> None:
        """One step of every arm's students, each on noise and teacher's logits of its own."""
        for student, chosen in zip(self.students, self.chosen, strict=True):
            images = self._stacked(self.noise.index_select(0, self._which_noise()))
            with torch.no_grad():
                targets = self.teacher.logits(images)
            student.train_step(
                lambda logits, chosen=chosen, targets=targets: kl_divergence(
                    logits, targets, chosen
                ),
                images,
            )
