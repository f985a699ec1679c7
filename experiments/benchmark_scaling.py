r"""How a decoder's training step scales over devices, and what memory it needs on each.

Claim     One pure step runs on one device, data-parallel and on meshes. The cost of more devices is
          the bytes that they exchange, which are read from the compiled program.
Command   XLA_FLAGS=--xla_force_host_platform_device_count=8 NPROC=32 \
              python experiments/benchmark_scaling.py --devices 1 2 4 8
          XLA_FLAGS=--xla_force_host_platform_device_count=16 NPROC=32 JAX_PLATFORMS=cpu \
              python experiments/benchmark_scaling.py --preset pod_v5e --plan
          JAX_PLATFORMS=cpu python experiments/benchmark_scaling.py --preset pod_v5e --plan \
              --topology v5e:4x4                with libtpu, the TPU's compiler, on any machine
          python experiments/benchmark_scaling.py --preset pod_v5e      on every host of the pod
Expected  A line per execution and device count: seconds of a step, MB between devices, their share
          of all bytes written, and on an accelerator the share of its peak. Virtual devices share
          the same cores, so their times say nothing about scaling.
"""

from subliminal_jax import early  # noqa: F401, I001  first of all

import os
import sys

from benchmarks.scaling_config import ScalingConfig

from subliminal_jax.config import parse_config, presets_of
from subliminal_jax.entry import run_main

PRESETS = presets_of(__file__, "quick")


def main() -> None:
    """Check the flags, then plan or measure."""
    config = parse_config(
        ScalingConfig,
        sys.argv[1:],
        prog="benchmark_scaling.py",
        description="Time, memory and bytes between devices of a decoder's training step.",
        presets=PRESETS,
    )
    import jax
    from benchmarks import scaling

    from subliminal_jax.execution import hosts
    from subliminal_jax.execution.cluster import cluster_of, joined

    with joined(cluster_of(os.environ, asked=config.all_hosts)):
        job = scaling.job_of(config)
        peak = config.peak_tflops
        if peak is None and config.dtype == "bfloat16":
            peak = scaling.peak_tflops(jax.devices()[0].device_kind)
        for name, execution in list(scaling.executions_of(config)):
            if config.plan:
                planned = scaling.plan(job, execution, config.batch)
                lines = scaling.plan_lines(planned, config.memory_gb)
            else:
                steps, repetitions = config.steps, config.repetitions
                measured = scaling.measure(job, execution, config.batch, steps, repetitions)
                lines = [scaling.line(measured, execution.devices, peak)]
            if hosts.is_first():
                print(name, *lines, sep="\n  ", flush=True)


if __name__ == "__main__":
    run_main(main)
