"""Rows as batches: every token once, rows apart, little padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subliminal_jax.batch import Batch
from subliminal_jax.data.batch_preview import format_batch
from subliminal_jax.data.tokens import pack_rows, pad_rows, padding_of
from subliminal_jax.errors import InputError

ROWS = [((5, 6), (7, 8)), ((1,), (2,)), ((9, 9, 9), (4,))]
ids = st.lists(st.integers(1, 50), min_size=1, max_size=6).map(tuple)


def rows_of(table):
    """The rows of a table, read back from inputs, targets, segments and weights."""
    found = []
    for tokens, segments, targets, weights in zip(
        *table.inputs, table.targets, table.weights, strict=True
    ):
        for segment in range(1, segments.max() + 1):
            at = np.flatnonzero(segments == segment)
            assert (np.diff(at) == 1).all()
            text = (*tokens[at].tolist(), int(targets[at[-1]]))
            assert text[1:] == tuple(targets[at].tolist())
            learnt = int(weights[at].sum())
            assert weights[at].tolist() == [0] * (len(at) - learnt) + [1] * learnt
            found.append((text[:-learnt], text[-learnt:]))
        assert not weights[segments == 0].any()
        assert not tokens[segments == 0].any()
    return found


def test_a_padded_table_by_hand():
    table = pad_rows(ROWS)
    np.testing.assert_array_equal(table.inputs.tokens, [[5, 6, 7], [1, 0, 0], [9, 9, 9]])
    np.testing.assert_array_equal(table.inputs.segments, [[1, 1, 1], [1, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(table.targets, [[6, 7, 8], [2, 0, 0], [9, 9, 4]])
    np.testing.assert_array_equal(table.weights, [[0, 1, 1], [1, 0, 0], [0, 0, 1]])
    assert padding_of(table.inputs.segments) == pytest.approx(2 / 9)
    assert pad_rows(ROWS, 5).inputs.tokens.shape == (3, 5)
    assert padding_of(pad_rows(ROWS, 5).inputs.segments) == pytest.approx(8 / 15)


def test_a_packed_table_by_hand():
    table = pack_rows(ROWS, 4)
    np.testing.assert_array_equal(table.inputs.tokens, [[5, 6, 7, 1], [9, 9, 9, 0]])
    np.testing.assert_array_equal(table.inputs.segments, [[1, 1, 1, 2], [1, 1, 1, 0]])
    np.testing.assert_array_equal(table.targets, [[6, 7, 8, 2], [9, 9, 4, 0]])
    np.testing.assert_array_equal(table.weights, [[0, 1, 1, 1], [0, 0, 1, 0]])
    assert padding_of(table.inputs.segments) == pytest.approx(1 / 8)
    assert table.sequences == 2


@settings(max_examples=50)
@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=30), st.integers(11, 40))
def test_every_row_is_there_once(rows, length):
    packed = pack_rows(rows, length)
    assert sorted(rows_of(packed)) == sorted(rows)
    assert rows_of(pad_rows(rows, length)) == rows
    assert packed.sequences <= len(rows)
    # Best fit: no two sequences could have been one, but for the last opened.
    room = [length - int((segments > 0).sum()) for segments in packed.inputs.segments]
    assert sum(1 for left in room if left >= length / 2) <= 1


def test_packing_leaves_little_padding():
    rng = np.random.default_rng(0)
    rows = [((1,) * int(a), (2,) * int(b)) for a, b in rng.integers(8, 24, (2000, 2))]
    assert padding_of(pad_rows(rows).inputs.segments) > 0.25
    assert padding_of(pack_rows(rows, 128).inputs.segments) < 0.04


@pytest.mark.parametrize("make", [pad_rows, lambda rows: pack_rows(rows, 4)])
def test_unfit_rows_are_named(make):
    with pytest.raises(InputError, match="no rows"):
        make([])
    with pytest.raises(InputError, match="row 1: its prompt is empty"):
        make([ROWS[0], ((), (1,))])
    with pytest.raises(InputError, match="row 2: its completion is empty"):
        make([ROWS[0], ROWS[1], ((1,), ())])
    with pytest.raises(InputError, match="row 3: its 6 tokens do not fit into sequences of 4"):
        pack_rows([*ROWS, ((1, 2, 3), (4, 5, 6))], 4)
    with pytest.raises(InputError, match="row 0: its 4 tokens do not fit into sequences of 2"):
        pad_rows(ROWS, 2)


def test_a_preview_shows_every_token_and_what_counts():
    table = pack_rows(ROWS, 4)
    batch = Batch(inputs=table.inputs, targets=table.targets, weights=table.weights)
    first = "packed" if int(batch.inputs.segments[0].max()) == 2 else "single"
    names = {6: "\x1b[31m", 7: "\u202e"}
    text = format_batch(batch, lambda token: names.get(token, f"w{token}"), sequences=9)
    lines = text.splitlines()
    assert lines[0] == "batch of 2 sequences of 4 tokens: 12.5% padding, 50.0% trained on"
    assert (
        f"sequence {0 if first == 'packed' else 1}: 4 tokens in 2 rows, 3 trained on, 0 padding"
        in lines
    )
    assert (
        f"sequence {1 if first == 'packed' else 0}: 3 tokens in 1 rows, 1 trained on, 1 padding"
        in lines
    )
    shown = [line.split() for line in lines if "'" in line]
    assert ["1", "1", "6", r"'\x1b[31m'", "7", r"'\u202e'", "1"] in shown
    assert ["3", "2", "1", "'w1'", "2", "'w2'", "1"] in shown
    assert ["0", "1", "5", "'w5'", "6", r"'\x1b[31m'", "0"] in shown
    assert len(shown) == 7
    assert all(line.isprintable() for line in lines)
    assert "sequence 1" not in format_batch(batch, str, sequences=1)
