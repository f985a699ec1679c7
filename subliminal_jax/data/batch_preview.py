"""A token batch as text to read: every id, its text and its weight in the loss."""

from collections.abc import Callable

import numpy as np

from subliminal_jax.batch import Batch


def format_batch(batch: Batch, token_text: Callable[[int], str], sequences: int = 2) -> str:
    """The first sequences of a batch for a terminal, one line per token.

    It reveals a wrong template or mask: each line has the row within the sequence, the input
    token, the target token and the target's weight.

    Args:
        batch: of `TokenInputs`, targets and weights, such as sequences of a `TokenTable`.
        token_text: the text of an id. Control characters in it are escaped.
        sequences: how many to show.
    """
    tokens, segments = (np.asarray(leaf) for leaf in batch.inputs)
    targets, weights = np.asarray(batch.targets), np.asarray(batch.weights)
    count, length = tokens.shape
    lines = [
        f"batch of {count} sequences of {length} tokens: {np.mean(segments == 0):.1%} padding, "
        f"{np.mean(weights != 0):.1%} trained on"
    ]
    for number in range(min(sequences, count)):
        real = np.flatnonzero(segments[number])
        lines += [
            "",
            f"sequence {number}: {len(real)} tokens in {segments[number].max()} rows, "
            f"{np.count_nonzero(weights[number])} trained on, {length - len(real)} padding",
            f"{'':>5}{'row':>4}{'id':>8} {'input':24}{'id':>8} {'target':24}weight",
        ]
        for place in real:
            read, target = int(tokens[number, place]), int(targets[number, place])
            lines.append(
                f"{place:5}{segments[number, place]:4}{read:8} {token_text(read)!r:24}"
                f"{target:8} {token_text(target)!r:24}{weights[number, place]:g}"
            )
    return "\n".join(lines)
