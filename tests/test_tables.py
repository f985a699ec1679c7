import pytest

from subliminal_jax.report.tables import Table, csv_text


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


def test_a_column_with_a_cell_longer_than_any_number_is_text():
    longest, reasons = "9" * 30, "too long 12%, a trait's word 3%"
    table = Table("", ("name", "mean", "why"), (("a", longest, ""), ("b", "1", reasons)))
    assert table.of_text == (True, False, True)
    assert Table("", ("name", "n"), ()).of_text == (True, False)


def test_a_long_note_is_wrapped():
    note = "word " * 60
    lines = Table("T", ("a",), (("1",),), note).text().splitlines()
    assert max(map(len, lines)) <= 99
    assert " ".join(lines[4:]) == note.strip()


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"T: .* does not fit the columns"):
        Table("T", ("a", "b"), (("1",),))


def test_a_long_name_continues_on_the_next_line():
    table = Table("", ("name", "n"), (("x" * 50, "1"), ("y", "2")))
    assert table.text().splitlines()[2:] == [f"{'x' * 38}  1", f"  {'x' * 12}", f"y{' ' * 37}  2"]


def test_csv_keeps_every_digit_and_leaves_out_what_is_missing():
    assert csv_text(("a", "b"), [(0.1 + 0.2, None), ("x, y", 1)]) == (
        'a,b\n0.30000000000000004,\n"x, y",1\n'
    )
