"""What a compiled program moves, counted by hand and in real programs."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from subliminal_jax.execution.hlo import written_bytes
from subliminal_jax.execution.mesh import make_mesh

TEXT = """
HloModule m

%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}

%body (p: (s32[], f32[4,2])) -> (s32[], f32[4,2]) {
  %p = (s32[], f32[4,2]{1,0}) parameter(0)
  %x = f32[4,2]{1,0} get-tuple-element(%p), index=1
  %r = f32[4,2]{1,0} all-reduce(%x), to_apply=%sum
  %d = f32[4,2]{1,0} multiply(%r, %r)
  ROOT %t = (s32[], f32[4,2]{1,0}) tuple(%i, %d)
}

ENTRY %main (x: f32[4,2]) -> bf16[8,2] {
  %w = (s32[], f32[4,2]{1,0}) while(%t0), condition=%c, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
  %g = bf16[8,2]{1,0} all-gather(%y), dimensions={0}
  %s = (pred[8]{0}, pred[8]{0}) all-reduce-start(%q), to_apply=%sum
  ROOT %e = pred[8]{0} all-reduce-done(%s)
}
"""


def test_by_hand():
    # The loop: 3 x (32 reduced + 32 multiplied). Behind it 8 x 2 x 2 gathered, 2 x 8 started.
    assert written_bytes(TEXT) == {
        "all-reduce": 3 * 32 + 16,
        "all-gather": 32,
        "reduce-scatter": 0,
        "all-to-all": 0,
        "collective-permute": 0,
        "all": 3 * 64 + 32 + 16,
    }


def test_a_compiled_program():
    """Weights that are split are collected, as many bytes as they have."""
    mesh = make_mesh(1, 8, 1)
    split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("fsdp",), ()))
    like = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=split)
    program = jax.jit(lambda w: w + 1.0, out_shardings=whole).lower(like).compile()
    assert written_bytes(program.as_text())["all-gather"] == 16 * 32 * 4


def test_no_text_moves_nothing():
    assert set(written_bytes("").values()) == {0}
