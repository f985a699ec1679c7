import pytest

from subliminal_jax.tables import Table


def test_a_table_is_aligned():
    table = Table(
        "Title", ("name", "kind", "n"), (("a", "long one", "7"), ("b", "x", "12")), "N.", 2
    )
    assert table.text() == (
        "Title\n"
        "name  kind       n\n"
        "----  --------  --\n"
        "a     long one   7\n"
        "b     x         12\n"
        "N.\n"
    )  # fmt: skip


def test_a_long_note_is_wrapped():
    note = "word " * 60
    lines = Table("T", ("a",), (("1",),), note).text().splitlines()
    assert max(map(len, lines)) <= 99
    assert " ".join(lines[4:]) == note.strip()


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"T: .* does not fit the columns"):
        Table("T", ("a", "b"), (("1",),))
