"""The leak scores of the MNIST experiment's students, computed before they train."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from subliminal_jax import ensemble, losses
from subliminal_jax.batch import Batch, Params
from subliminal_jax.execution.program import Program
from subliminal_jax.mnist.phases import ArmLoss, Images, Members, Phases, layers_like
from subliminal_jax.mnist.study import Students, Study
from subliminal_jax.models import mlp
from subliminal_jax.theory.leak import Leak, leak


def arm_leaks(
    phases: Phases,
    carry: None,
    member: tuple[Members, Params, Params, Float[Array, "n k"]],
    digits: Images,
) -> tuple[None, Leak]:
    """The leak of every arm's student of one member, `[A]`, on one batch of images and digits.

    Args:
        phases: the experiment's phases.
        carry: unused.
        member: who it is, the students' initial parameters `[A, ...]`, its teacher's parameters,
            and the teacher's logits on the images that the students see.
        digits: the training images and labels, for the trait's loss.
    """
    who, starts, teacher, teacher_logits = member
    number = jnp.arange(min(phases.schedule.batch, len(teacher_logits)))
    seen = phases.seen(who.member, number, digits)
    taught = jnp.arange(min(phases.schedule.batch, len(digits.labels)))
    pixels = phases.scale(digits.pixels[taught])
    imitations = ensemble.stack([phases.imitation_of(arm) for arm in phases.arms.values()])
    apply = partial(mlp.apply, phases.student_network)

    def trait_loss(params: Params) -> Array:
        logits = mlp.class_logits(phases.network, apply(params, pixels))
        return jnp.mean(losses.cross_entropy(logits, digits.labels[taught]))

    def of_arm(start: Params, imitation: ArmLoss) -> Leak:
        targets = (teacher_logits[number], imitation)
        data = Batch(inputs=seen, targets=targets, weights=jnp.ones(len(number)))
        end = layers_like(start, teacher)
        return leak(apply, phases.imitation_loss, start, end, data, trait_loss)

    return None, jax.vmap(of_arm)(starts, imitations)


class StudentLeaks:
    """Computes the leaks of a study's students before they train, in one compiled program."""

    def __init__(self, study: Study):
        self._study = study
        self._program = Program(partial(arm_leaks, study.phases), study.execution)

    def __call__(self, block: Members, starts: Students, teacher: Any, logits: Any) -> Leak:
        """The leak of every member and arm, `[m, A]`."""
        study = self._study
        member = (study.execution.split(block), starts.states.params, teacher, logits)
        _, leaks = self._program(None, member, study.train)
        return study.execution.fetch(leaks)

    @property
    def compile_seconds(self) -> float:
        """Time spent compiling so far."""
        return self._program.compile_seconds

    @property
    def seconds(self) -> float:
        """Time spent running so far."""
        return self._program.seconds
