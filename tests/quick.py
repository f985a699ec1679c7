"""Fast beginnings: programs that run once are compiled in a hurry, parameters not at all."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

# A quarter of the usual compile time on a CPU.
IN_A_HURRY: dict[str, int | bool] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11, 1):  # later ones have no such option, and refuse unknown ones
    IN_A_HURRY["xla_cpu_use_fusion_emitters"] = False
quick_jit = partial(jax.jit, compiler_options=IN_A_HURRY)
QUICK_FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in IN_A_HURRY.items())
"""The same of all programs of a process."""


def random_params(config, seed: int = 0, scale: float = 0.2):
    """Parameters drawn by NumPy: nothing is compiled."""
    # `conftest.py` imports this module before shapes are checked in what is imported.
    from subliminal_jax.models.decoder import decoder

    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: decoder.init(config, jax.random.key(0)))

    def draw(path, leaf):
        centre = 1 if path[-1].key == "scale" else 0
        return jnp.asarray(rng.normal(centre, scale, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)
