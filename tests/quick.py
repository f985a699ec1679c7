"""Fast beginnings: tests compile in a hurry, and parameters are drawn without compiling."""

import gc

import jax
import jax.numpy as jnp
import numpy as np

# A fifth of the usual compile time on a CPU: code is not optimised, nor divided among threads.
_IN_A_HURRY: dict[str, int | bool] = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
}
if jax.__version_info__ < (0, 11, 1):  # later ones have no such option, and refuse unknown ones
    _IN_A_HURRY["xla_cpu_use_fusion_emitters"] = False
QUICK_FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in _IN_A_HURRY.items())
"""For the programs of tests, which compile for longer than they compute."""


def import_without_collecting() -> None:
    """Switch the garbage collector off while all is imported: a fifth of that time is its own."""
    gc.disable()


def collect_seldom() -> None:
    """Leave what was imported alone, and go through the rest a hundredth as often as usual.

    To trace a program makes many small objects and few cycles: collections take a twentieth of the
    tests' time and free next to nothing.
    """
    gc.freeze()
    gc.set_threshold(70_000, 20, 20)
    gc.enable()


def random_params(config, seed: int = 0, scale: float = 0.2):
    """Parameters drawn by NumPy: nothing is compiled."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        centre = 1 if path[-1].key == "scale" else 0
        return jnp.asarray(rng.normal(centre, scale, leaf.shape), jnp.float32)

    # `conftest.py` imports this module before shapes are checked in what is imported.
    from subliminal_jax.models.decoder import decoder

    return jax.tree_util.tree_map_with_path(draw, decoder.shapes(config))
