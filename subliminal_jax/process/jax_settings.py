"""JAX settings that change results, fixed here for every script.

A run is defined by its config: the same config gives the same numbers in every shell. JAX also
reads each of these settings from an environment variable (`JAX_ENABLE_X64`). Settings for where
and how fast to run, and for debugging, are left to the user.
"""

import os
import sys
from collections.abc import MutableMapping
from types import MappingProxyType
from typing import Any

PINNED = MappingProxyType(
    {
        # Which random numbers are drawn.
        "jax_default_prng_impl": "threefry2x32",
        "jax_threefry_partitionable": True,
        "jax_random_seed_offset": 0,
        "jax_enable_custom_prng": False,
        "jax_high_dynamic_range_gumbel": False,
        # The precision and the formulas of computations.
        "jax_enable_x64": False,
        "jax_explicit_x64_dtypes": "warn",
        "jax_numpy_dtype_promotion": "standard",
        "jax_default_matmul_precision": None,
        "jax_softmax_custom_jvp": False,
        "jax_accurate_erf_inv": False,
        "jax_use_hlo_logistic_lowering": None,
        # How programs are compiled and differentiated, which changes rounding.
        "jax_disable_jit": False,
        "jax_disable_most_optimizations": False,
        "jax_optimization_level": "UNKNOWN",
        "jax_exec_time_optimization_effort": 0.0,
        "jax_memory_fitting_level": "O2",
        "jax_memory_fitting_effort": 0.0,
        "jax_compiler_enable_remat_pass": True,
        "jax_enable_pgle": False,
        "jax_use_direct_linearize": True,
        "jax_use_shardy_partitioner": True,
        "jax_custom_jvp3": False,
        "jax_custom_vjp3": False,
        "jax_remat3": False,
        "jax_remat_barrier_no_cotangents": False,
        "jax_scan3": False,
        "eager_constant_folding": False,
    }
)
"""JAX's defaults, under its own names; names that a version of JAX lacks are skipped."""

VARIABLES = ("NVIDIA_TF32_OVERRIDE",)
"""Another variable that changes results: cuBLAS, which multiplies matrices for XLA, reads it."""
_TRUE, _FALSE = ("1", "true", "yes", "on", "y", "t"), ("0", "false", "no", "off", "n", "f")


def pin(environ: MutableMapping[str, str] = os.environ) -> list[str]:
    """Set JAX to the values of `PINNED`, whether it is imported yet or not.

    Args:
        environ: the variables of this process; those of pinned settings are removed.

    Returns:
        The removed variables that differed from the default, as `NAME=value`.
    """
    removed = []
    for variable in (*(name.upper() for name in PINNED), *VARIABLES):
        value = environ.get(variable)
        if value is not None:
            del environ[variable]
            if not _is_default(variable, value):
                removed.append(f"{variable}={value}")
    config: Any = getattr(sys.modules.get("jax"), "config", None)
    for name in PINNED if config is not None else ():
        if name in config.values:
            config.update(name, PINNED[name])
    return removed


def _is_default(variable: str, value: str) -> bool:
    """Whether a variable asks for the default, as far as its text shows."""
    asked, default = value.strip().lower(), PINNED.get(variable.lower())
    if isinstance(default, bool):
        return asked in (_TRUE if default else _FALSE)
    return asked == str(default).lower()
