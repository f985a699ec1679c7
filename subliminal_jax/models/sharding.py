"""Where a decoder's weights lie on a mesh: plain rules, which an execution makes shardings of.

A rule is a pattern of a leaf's path and the mesh axis of each of its last dimensions. The first
product of attention and of the MLP splits what it gives out over `tensor`, the second what it takes
in, so that a layer adds up over `tensor` twice (Shoeybi et al. 2019, Megatron-LM); the other
dimension is split over `fsdp`. Norms, and biases of second products, are whole everywhere.
"""

_FIRST, _SECOND = r"(query|key|value|up|gate)", r"(output|down)"

DECODER_RULES = (
    (rf"{_FIRST}/kernel$", ("fsdp", "tensor")),
    (rf"{_FIRST}/bias$", ("tensor",)),
    (rf"{_SECOND}/kernel$", ("tensor", "fsdp")),
    (r"embedding$", ("tensor", "fsdp")),
    # Low-rank factors: the rank, which is small, is never split.
    (rf"{_FIRST}/a$", ("fsdp", None)),
    (rf"{_FIRST}/b$", (None, "tensor")),
    (rf"{_SECOND}/a$", ("tensor", None)),
    (rf"{_SECOND}/b$", (None, "fsdp")),
)
