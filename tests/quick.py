"""`jax.jit` for programs that run once: compiling them well would take longer than running."""

from functools import partial

import jax

quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
