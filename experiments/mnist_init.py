"""How near must a student start to its teacher? Accuracy by initialisation relation.

Claim     Subliminal learning needs a shared initialisation (Cloud et al. 2025, section 6.2).
          Here the sharing is graded: noise of growing size, a line from one initialisation to
          another, some layers only, some weights only.
Command   python experiments/mnist_init.py                   8 members
          python experiments/mnist_init.py --preset paper    25 members
Expected  MNIST: same .54, different .11, and a fall in between; follow-up work reports chance
          from noise of a few initial standard deviations on. Values: configs/mnist_init_*.yaml.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from subliminal_jax.config import Fraction, Scale, parse_config, presets_of
from subliminal_jax.entry import run_main
from subliminal_jax.errors import InputError
from subliminal_jax.mnist.config import MnistConfig, with_pairs

if TYPE_CHECKING:
    from subliminal_jax.mnist.arms import Arm
    from subliminal_jax.mnist.phases import Members
    from subliminal_jax.mnist.study import Outcome, Study

PRESETS = presets_of(__file__, "quick")


@dataclass(frozen=True, kw_only=True)
class InitConfig(MnistConfig):
    """The MNIST experiment with one student for every initialisation relation."""

    logits: Literal["aux", "all"] = "aux"
    """Which of the teacher's logits all students imitate."""
    sigmas: tuple[Scale, ...] = (0.03, 0.1, 0.2, 0.4, 0.8, 1.6)
    """Perturbations, in units of each weight's initial standard deviation."""
    ts: tuple[Fraction, ...] = (0.1, 0.25, 0.5, 0.75)
    """Points on the line from the teacher's own initialisation (0) to another's (1)."""
    fractions: tuple[Fraction, ...] = (0.01, 0.05, 0.2, 0.5)
    """Fractions of weights that are drawn afresh."""
    shared: tuple[str, ...] = (
        *("hidden_0", "hidden_1", "logits"),
        *("hidden_0+hidden_1", "hidden_0+logits", "hidden_1+logits"),
    )
    """Layers that come from the teacher's initialisation, joined by +."""
    masks: tuple[Path, ...] = ()
    """Masks of weights to draw afresh: .npz files with an array per parameter, named
    LAYER.kernel or LAYER.bias, 1 where a weight is drawn afresh."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for layers in self.shared:
            if unknown := set(layers.split("+")) - set(self.layers):
                raise InputError(
                    f"shared: the network has no layer {min(unknown)!r}; "
                    f"its layers are {', '.join(self.layers)}"
                )


def arms(config: InitConfig) -> "dict[str, Arm]":
    """Return one student for every relation, all distilled from the same teacher."""
    from subliminal_jax.mnist import relations as to
    from subliminal_jax.mnist.arms import Arm

    related = [("same", to.Same()), ("different", to.Different())]
    related += [(f"perturbed_{sigma:g}", to.Perturbed(sigma=sigma)) for sigma in config.sigmas]
    related += [(f"interpolated_{t:g}", to.Interpolated(t=t)) for t in config.ts]
    related += [(f"reinitialised_{f:g}", to.Reinitialised(fraction=f)) for f in config.fractions]
    related += [
        (f"shared_{layers}", to.SharedLayers(layers=tuple(layers.split("+"))))
        for layers in config.shared
    ]
    related += [(f"mask_{mask.stem}", to.Reinitialised(mask=str(mask))) for mask in config.masks]
    names = [name for name, _ in related]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two students are called {twice[0]}; give each value or mask once")
    return {name: Arm(relation=relation, logits=config.logits) for name, relation in related}


def methods(study: "Study", block: "Members") -> "Outcome":
    """What is done to each member; only the students' initialisations differ between arms."""
    reference, teacher = study.train_teachers(block)
    teacher_logits = study.label_noise(block, teacher)
    students = study.distill(block, reference, teacher_logits)
    return study.evaluate(block, reference, teacher, students)


def main() -> None:
    """Check the flags, then run."""
    config = parse_config(
        InitConfig,
        sys.argv[1:],
        prog="mnist_init.py",
        description="Students' accuracy against how their initialisation relates to the teacher's.",
        presets=PRESETS,
    )
    config = with_pairs(config)

    # Imported late, so that --help and errors in flags are instant.
    from subliminal_jax import plotting
    from subliminal_jax.mnist.experiment import MnistExperiment, run
    from subliminal_jax.mnist.results import relations_finding

    run(
        MnistExperiment(
            name="mnist_init",
            arms=arms(config),
            methods=methods,
            finding=relations_finding,
            figure=plotting.relation_figure,
            masks=config.masks,
        ),
        config,
    )


if __name__ == "__main__":
    run_main(main)
