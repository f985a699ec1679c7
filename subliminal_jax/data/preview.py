"""A batch of tokens as a person reads it: every id, its text, and whether it is learnt."""

from collections.abc import Callable

import numpy as np

from subliminal_jax.batch import Batch


def format_batch(batch: Batch, token_text: Callable[[int], str], sequences: int = 2) -> str:
    """The first sequences of a batch, a line a token, for a terminal.

    A wrong template or mask shows here and nowhere else: every line has the row within its
    sequence, the token read, the token to be said next and how much that counts.

    Args:
        batch: of `TokenInputs` and the ids that follow, as `data.tokens.batch_at` gives.
        token_text: the text of an id. Whatever a terminal would obey is escaped.
        sequences: how many to show.
    """
    tokens, segments = (np.asarray(leaf) for leaf in batch.inputs)
    targets, weights = np.asarray(batch.targets), np.asarray(batch.weights)
    count, length = tokens.shape
    lines = [
        f"batch of {count} sequences of {length} tokens: {np.mean(segments == 0):.1%} padding, "
        f"{np.mean(weights != 0):.1%} learnt"
    ]
    for number in range(min(sequences, count)):
        real = np.flatnonzero(segments[number])
        lines += [
            "",
            f"sequence {number}: {len(real)} tokens in {segments[number].max()} rows, "
            f"{np.count_nonzero(weights[number])} learnt, {length - len(real)} padding",
            f"{'':>5}{'row':>4}{'id':>8} {'read':24}{'id':>8} {'to be said':24}weight",
        ]
        for place in real:
            read, said = int(tokens[number, place]), int(targets[number, place])
            lines.append(
                f"{place:5}{segments[number, place]:4}{read:8} {token_text(read)!r:24}"
                f"{said:8} {token_text(said)!r:24}{weights[number, place]:g}"
            )
    return "\n".join(lines)
