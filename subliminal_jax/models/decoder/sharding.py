"""Sharding rules of a decoder's weights; an execution builds shardings from them.

A rule is a pattern of a leaf's path and the mesh axis of each of its last dimensions. The first
projections of attention and of the MLP are sharded by output over `tensor`, the second by input, so
that a layer has two all-reduces over `tensor` (Shoeybi et al. 2019, Megatron-LM); the other
dimension is sharded over `fsdp`. Norms, and biases of second projections, are replicated.
"""

_FIRST, _SECOND = r"(query|key|value|up|gate)", r"(output|down)"

DECODER_RULES = (
    (rf"{_FIRST}/kernel$", ("fsdp", "tensor")),
    (rf"{_FIRST}/bias$", ("tensor",)),
    (rf"{_SECOND}/kernel$", ("tensor", "fsdp")),
    (r"embedding$", ("tensor", "fsdp")),
    # Low-rank factors: the rank is too small to shard.
    (rf"{_FIRST}/a$", ("fsdp", None)),
    (rf"{_FIRST}/b$", (None, "tensor")),
    (rf"{_SECOND}/a$", ("tensor", None)),
    (rf"{_SECOND}/b$", (None, "fsdp")),
)
