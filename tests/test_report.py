import base64
import csv
import html
import re
from dataclasses import replace

import pytest
from fake_results import AUX_ARMS, aux_results, init_results

from subliminal_jax.errors import InputError
from subliminal_jax.mnist.report import arm_rows, arms_page, arms_text
from subliminal_jax.report.page import Page, Picture, Text, html_page
from subliminal_jax.report.results import (
    bracketed,
    duration,
    interval_values,
    p_text,
    read_arms,
    read_interval,
    relation_text,
)
from subliminal_jax.report.tables import Table, csv_text
from subliminal_jax.stats import mean_interval

ATTACK = "<script>alert('x')</script> & more"


@pytest.fixture
def exact():
    """Results with numbers that are easy to recognise."""
    results = aux_results(2)
    results["arms"]["student_aux"] = {
        "mean": 0.5378,
        "ci95": [0.4321, 0.6789],
        "n": 2,
        "values": [0.25, 0.8256],
        "published": 0.528,
    }
    return results


def html_report(results, figure: bytes) -> str:
    return html_page(arms_page(results), {"figure": figure})


def row_of(table: str, arm: str) -> list[str]:
    return next(line.split() for line in table.splitlines() if line.startswith(arm + " "))


def test_a_row_holds_mean_interval_members_and_published_mean(exact):
    assert row_of(arms_text(exact), "student_aux") == [
        "student_aux", "0.538", "[0.432,", "0.679]", "2", "0.528",
    ]  # fmt: skip


@pytest.mark.parametrize("results", [aux_results(100), aux_results(8, "digits"), init_results(8)])
def test_table_lines_fit_and_arms_keep_their_order(results):
    table = arms_text(results)
    lines = table.splitlines()
    assert max(map(len, lines)) < 100
    rule = next(index for index, line in enumerate(lines) if set(line) == {"-", " "})
    assert [line.split()[0] for line in lines[rule + 1 :]] == list(results["arms"])
    # the last column is aligned to the right, under its name and in every row that has an entry
    assert {len(line) for line in lines[rule - 1 : rule + 1]} == {len(lines[rule])}
    assert len(lines[-1]) == len(lines[rule])
    assert lines[0].startswith(results["finding"][:60])
    assert table.isascii()


def test_the_heading_of_a_table_names_data_and_reason():
    table = arms_text(aux_results(100))
    for fact in (
        "mnist: 60,000 training and 10,000 test images of 784 pixels",
        "from tensorflow-datasets",
        "why   asked for",
        "mnist_aux, 100 members, corrected recipe",
        "total 12 min 05 s, compile 12.3 s, teach 1 min 41 s",
    ):
        assert fact in table


def test_the_table_warns_of_other_data_only():
    loud = [line for line in arms_text(aux_results(8, "digits")).splitlines() if "!!!" in line]
    assert loud[0].startswith("!!! NOT MNIST: measured on digits.")
    assert "compared with the paper's." in loud[-1]
    assert "why " not in arms_text(aux_results(8, "digits"))  # not the same reason twice
    assert "NOT MNIST" not in arms_text(aux_results(8))


def test_digits_chosen_by_the_user_cause_no_warning():
    results = aux_results(8, "digits")
    results["data"] |= {"stands_in": False, "reason": "the digits were asked for"}
    assert "NOT MNIST" not in arms_text(results) + html_report(results, b"")
    assert "why   the digits were asked for" in arms_text(results)


def test_columns_without_entries_are_left_out():
    assert "published" not in arms_text(aux_results(8, "digits"))
    assert "init distance" not in arms_text(aux_results(8))
    assert "published" not in arms_text(init_results(8))
    distance = init_results(8)["arms"]["different"]["init_distance"]["mean"]
    assert row_of(arms_text(init_results(8)), "different")[-1] == f"{distance:.3f}"


def test_a_single_member_has_no_interval():
    assert row_of(arms_text(aux_results(1)), "teacher")[2:4] == ["none", "1"]


def test_a_long_arm_name_continues_on_the_next_line(exact):
    name = "shared_" + "x" * 60
    exact["arms"][name] = exact["arms"]["student_aux"]
    lines = arms_text(exact).splitlines()
    assert max(map(len, lines)) < 100
    assert lines[-2].split()[0] + lines[-1].strip() == name


def test_csv_has_a_row_per_member_and_arm_in_full_precision():
    results = init_results(3)
    rows = list(csv.DictReader(csv_text(*arm_rows(results)).splitlines()))
    assert list(rows[0]) == ["arm", "member", "accuracy", "init_distance", "relation"]
    assert len(rows) == 3 * len(results["arms"])
    read = {(row["arm"], int(row["member"])): row for row in rows}
    for name, arm in results["arms"].items():
        for member, value in enumerate(arm["values"]):
            row = read[name, member]
            assert float(row["accuracy"]) == value
            if "init_distance" in arm:
                assert float(row["init_distance"]) == arm["init_distance"]["values"][member]
            else:
                assert row["init_distance"] == row["relation"] == ""
    assert read["perturbed_0.4", 2]["relation"] == "perturbed sigma=0.4"
    assert read["shared_hidden_0_readout", 0]["relation"] == (
        "shared_layers layers=hidden_0+readout"
    )


def test_page_escapes_everything_from_the_results():
    results = aux_results(8, "digits", finding=ATTACK)
    results["config"]["data_dir"] = ATTACK
    results["data"]["reason"] = results["data"]["source"] = ATTACK
    results["environment"]["platform"] = ATTACK
    results["arms"][ATTACK] = results["arms"]["teacher"]
    page = html_report(results, b"")
    assert "<script" not in page
    # the heading, the warning, two data facts, the config, the platform, a row
    assert page.count(html.escape(ATTACK).replace("&#x27;", "&#39;")) == 7


def test_page_shows_the_figure_and_refers_to_nothing_outside():
    figure = b"\x89PNG any bytes \x00\xff"
    page = html_report(aux_results(8), figure)
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert [base64.b64decode(source.split(",", 1)[1]) for source in sources] == [figure]
    assert sources[0].startswith("data:image/png;base64,")


def test_the_page_starts_with_the_finding(exact):
    page = html_report(exact, b"")
    body = page[page.index("<body>") :]
    order = [
        exact["finding"], "<figure>", "Student (auxiliary logits)", "Configuration", "Versions",
        "Time", "Data",
    ]  # fmt: skip
    places = [body.index(part) for part in order]
    assert places == sorted(places)
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", body.replace(",&nbsp;", ", "))
    assert cells[10:15] == [
        "Student (auxiliary logits)", "0.538", "[0.432, 0.679]", "2", "0.528",
    ]  # fmt: skip
    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", body))
    assert facts["learning_rate"] == "0.0003"
    assert facts["jax"] == "0.10.2"
    assert facts["distill"] == "9 min 40 s"
    assert facts["train"] == "sha256:" + "a1" * 32
    assert body.count("<tr>") == 1 + len(AUX_ARMS)


def test_the_finding_stands_once_on_the_page(exact):
    assert html_report(exact, b"").count(exact["finding"]) == 1


PAGE = Page(
    experiment="e",
    finding="F.",
    subtitle="s",
    blocks=[
        Picture("one", "what it shows"),
        Text("Steps", ("first", "second"), numbered=True),
        Text("", ("a paragraph",)),
        Table("T", ("name", "n"), (("a_long_name", "[1, 3]"), ("<b>", "2")), "A note."),
    ],
    sections={"Configuration": {"a": {"b": 1, "c": [1, 2]}, "d": None, "e": {}, "f": []}},
)


def test_a_page_is_made_of_blocks():
    page = html_page(PAGE, {"one": b"png"})
    assert page.count('<img alt="what it shows" src="data:image/png;base64,') == 1
    assert "<ol>\n<li>first</li>\n<li>second</li>\n</ol>" in page
    assert "<p>a paragraph</p>" in page
    assert "A note." in page
    assert '<p class="warning">' not in page
    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", page))
    assert facts == {"a.b": "1", "a.c": "1, 2", "d": "none", "e": "none", "f": "none"}


def test_a_cell_breaks_after_an_underscore_only():
    page = html_page(PAGE, {"one": b""})
    assert "a_<wbr>long_<wbr>name" in page
    assert "&lt;b&gt;" in page
    assert "[1,&nbsp;3]" in page  # an interval stays on one line
    style = page[page.index("<style>") : page.index("</style>")]
    cells = re.search(r"th, td {([^}]*)}", style)[1]
    assert "overflow-wrap: normal" in cells


def test_a_column_of_text_wraps():
    rows = (("a", "1.5", "too long 12%, a trait's word 3%"),)
    page = html_page(replace(PAGE, blocks=[Table("", ("set", "n", "why"), rows)]), {})
    assert '<th>n</th><th class="text">why</th>' in page
    assert '<td>1.5</td><td class="text long">too long 12%, a trait&#39;s word 3%</td>' in page
    assert "td.text { text-align: left; white-space: normal; }" in page


def test_the_page_suits_dark_screens_phones_and_paper():
    page = html_page(PAGE, {"one": b""})
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert 'name="viewport"' in page
    assert page.count("<table>") == page.count('<div class="scroll"><table>')


def test_intervals_are_written_and_read():
    known, unknown = mean_interval([0.25, 0.5, 0.75]), mean_interval([0.5])
    assert read_interval(interval_values(known)) == known
    assert interval_values(unknown) == {"mean": 0.5, "ci95": [None, None], "n": 1}
    assert not read_interval(interval_values(unknown)).known
    assert bracketed({"mean": 0.5, "ci95": [0.25, 0.75], "n": 3}, "+.2f") == "+0.50 [+0.25, +0.75]"
    assert bracketed(interval_values(unknown)) == "0.500"
    assert [p_text(p) for p in (None, 0.5, 1e-4)] == ["", "0.500", "<.001"]


def test_page_names_relations_of_initialisations():
    page = html_report(init_results(8), b"")
    assert "interpolated t=0.25" in page
    assert "relation to the teacher" in page
    assert "relation to the teacher" not in html_report(aux_results(8), b"")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (7.46, "7.5 s"), (59.96, "1 min 00 s"), (185, "3 min 05 s"), (3599.7, "1 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)  # fmt: skip
def test_durations_have_readable_units(seconds, text):
    assert duration(seconds) == text


def test_relations_are_written_on_one_line():
    assert relation_text(None) == ""
    assert relation_text({"kind": "same"}) == "same"
    assert relation_text({"kind": "perturbed", "sigma": 0.4, "per": "layer"}) == (
        "perturbed sigma=0.4 per=layer"
    )


def test_an_arm_that_contradicts_itself_is_refused(exact):
    exact["arms"]["teacher"]["n"] = 3
    with pytest.raises(InputError, match="'teacher' has n = 3 and 2 values"):
        read_arms(exact)


def test_an_arm_without_members_is_refused(exact):
    exact["arms"]["teacher"] |= {"n": 0, "values": []}
    with pytest.raises(InputError, match="'teacher' has no values"):
        read_arms(exact)


def test_a_relation_of_a_kind_of_its_own_is_reported_under_its_name():
    results = init_results(2)
    results["arms"]["same"]["relation"] = {"kind": "twin", "degree": 2}
    arm = next(arm for arm in read_arms(results) if arm.name == "same")
    assert (arm.kind, relation_text(arm.relation)) == ("twin", "twin degree=2")


@pytest.mark.parametrize("relation", [{}, {"kind": None}, {"sigma": 1.0}])
def test_a_relation_without_a_kind_is_refused(relation):
    results = init_results(2)
    results["arms"]["same"]["relation"] = relation
    with pytest.raises(InputError, match="'same' has a relation without a kind"):
        read_arms(results)


@pytest.mark.parametrize("bounds", [None, [None, None], [float("nan"), float("nan")]])
def test_missing_bounds_are_unknown(bounds):
    results = aux_results(1)
    results["arms"]["teacher"]["ci95"] = bounds
    assert not read_arms(results)[1].accuracy.known
