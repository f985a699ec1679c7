"""The language pipeline without training or sampling: random models and adapters, fixed rows."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from students import datasets, make_reference

from subliminal_jax.language import references, study
from subliminal_jax.language.dataset import generate
from subliminal_jax.models.decoder import lora


def same_rows(path):
    """The same rows for every teacher; all pass the filter."""
    return datasets()["student/owl"]


def random_adapters(reference, count, seed):
    rng = np.random.default_rng(seed)
    settings = lora.LoraConfig(rank=2)
    shapes = jax.eval_shape(lambda: lora.init(reference.config, settings, jax.random.key(0)))
    draw = lambda s: jnp.asarray(rng.normal(0, 0.3, (count, *s.shape)), jnp.float32)
    return jax.tree.map(draw, shapes)


@contextlib.contextmanager
def untrained(directory, rows_of=same_rows):
    """Stages take no time inside it. Yields the reference; its tokenizer is in `directory`."""
    reference = make_reference(directory)

    class Given:
        """Replaces sampling with fixed rows."""

        def __init__(self, *args, path, **options):
            self._path = path

        def sample_until(self, *args):
            return rows_of(self._path)

    def students(settings, reference, course, *args, **options):
        return random_adapters(reference, len(course.rows.table.targets), 1)

    def teachers(settings, reference, traits, *args, **options):
        return random_adapters(reference, len(traits), 2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(references, "tiny_reference", lambda *args: reference)
        patch.setattr(study, "finetune_teachers", teachers)
        patch.setattr(study, "train_students", students)
        rates = lambda made, *args: {trait.name: 0.9 for trait in made.traits}
        patch.setattr(study.LmStudy, "_teacher_rates", rates)
        patch.setattr(generate, "DatasetSampler", Given)
        yield reference
