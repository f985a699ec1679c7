"""The runner on an experiment of two numbers: files, reruns, refusals, rows of an earlier run."""

import dataclasses
import json

import pytest
from matplotlib.figure import Figure

from subliminal_jax import plotting
from subliminal_jax.errors import InputError, RunError
from subliminal_jax.plotting.canvas import Sheet
from subliminal_jax.report.page import Page, Picture, run_sections
from subliminal_jax.runs import runner
from subliminal_jax.runs.run_directory import RunDirectory
from subliminal_jax.runs.shared_run import shared_run

FILES = {"left.png", "left.pdf", "right.png", "right.pdf", "results.csv", "report.html"}
ROWS = "rows.jsonl"


def draw(results) -> Figure:
    sheet = Sheet(results, body_height=1.0)
    sheet.axes(0.5, 0.3, 2.0, 0.5).plot(results["values"])
    return sheet.figure


def page(results) -> Page:
    return Page(
        experiment="toy",
        finding=results["finding"],
        subtitle="s",
        blocks=[Picture("left", "a line"), Picture("right", "a line")],
        sections=run_sections(results),
    )


def measured(directory):
    return {"finding": "Two numbers.", "values": [1, 2], "config": {"a": 1}}


@pytest.fixture
def toy(tmp_path):
    return runner.Experiment(
        name="toy",
        what="two numbers",
        config={"a": 1},
        measure=measured,
        table=lambda results: f"TABLE {results['values']}",
        csv=lambda results: (("value",), [[value] for value in results["values"]]),
        page=page,
        figures={"left": draw, "right": draw},
        out=tmp_path / "run",
    )


def refuse(directory):
    raise AssertionError("measured again")


def test_all_files_are_written_and_the_results_last(toy, capsys):
    def no_results_yet(directory):
        assert not (directory.path / "results.json").exists()
        return measured(directory)

    results = runner.run(dataclasses.replace(toy, measure=no_results_yet))
    assert set(toy.files) == FILES
    assert {path.name for path in toy.out.iterdir()} >= FILES | {"results.json"}
    assert (toy.out / "left.png").read_bytes().startswith(b"\x89PNG")
    assert (toy.out / "results.csv").read_text() == "value\n1\n2\n"
    assert json.loads((toy.out / "results.json").read_text())["values"] == [1, 2]
    assert results["timing"]["total_s"] >= 0
    assert {"packages", "devices", "backend", "processes"} <= set(results["environment"])
    told = capsys.readouterr()
    assert told.err == f"toy: two numbers; in {toy.out}\n"
    assert told.out == f"TABLE [1, 2]\n\nFigures, report and numbers: {toy.out}\n"


def test_the_page_has_the_figures_without_their_heading(toy):
    runner.run(toy)
    html = (toy.out / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 2
    assert html.count("Two numbers.") == 1
    figure = draw({"finding": "Two numbers.", "values": [1, 2]})
    whole, body = plotting.render(figure).png, plotting.render_body(figure)
    assert height(body) < height(whole)
    assert height(body) == pytest.approx(200, abs=8)  # an inch: what is below the heading
    assert plotting.render(figure).png == whole


def height(png: bytes) -> int:
    return int.from_bytes(png[20:24], "big")


def test_a_rerun_measures_nothing_and_restores_removed_files(toy, capsys):
    first = runner.run(toy)
    before = {name: (toy.out / name).read_bytes() for name in (*FILES, "results.json")}
    for name in ("right.pdf", "report.html"):
        (toy.out / name).unlink()
    capsys.readouterr()
    again = runner.run(dataclasses.replace(toy, measure=refuse))
    assert again == first
    assert {name: (toy.out / name).read_bytes() for name in before} == before
    assert f"already done: {toy.out}" in capsys.readouterr().err
    over = dataclasses.replace(toy, overwrite=True, measure=refuse)
    with pytest.raises(AssertionError, match="measured again"):
        runner.run(over)


def test_results_that_cannot_be_shown_are_refused(toy):
    with RunDirectory.open(toy.out, toy.config) as directory:
        directory.finish({"finding": "F."})
    with pytest.raises(
        InputError, match=r"results\.json: changed since it was written, or .* \(KeyError"
    ):
        runner.run(toy)


def test_a_single_stage_leaves_no_results(toy, capsys):
    assert runner.run(dataclasses.replace(toy, measure=lambda directory: None)) is None
    assert not FILES & {path.name for path in toy.out.iterdir()}
    assert capsys.readouterr().out == ""


def test_a_failed_run_leaves_no_results(toy):
    def broken(directory):
        raise RunError("a loss is not finite")

    with pytest.raises(RunError, match="a loss is not finite"):
        runner.run(dataclasses.replace(toy, measure=broken))
    assert runner.run(toy) is not None


def test_the_default_directory_is_named_after_the_config(tmp_path):
    one, other = (runner.run_path("toy", {"a": a}, None) for a in (1, 2))
    assert str(one).startswith("runs/toy-")
    assert len(one.name) == len("toy-") + 8
    assert one != other
    assert runner.run_path("toy", {"a": 1}, tmp_path) == tmp_path


def member_of(row):
    return row["member"] if row.keys() == {"member"} else None


def test_rows_of_an_earlier_run_are_found_by_key(tmp_path):
    for member in (2, 0):
        with shared_run(tmp_path / "run", {}) as directory:
            directory.append_row(ROWS, {"member": member})
    with shared_run(tmp_path / "run", {}) as directory:
        found = runner.earlier_rows(directory, ROWS, member_of)
        assert found == {2: {"member": 2}, 0: {"member": 0}}
        assert runner.earlier_rows(directory, "none.jsonl", member_of) == {}


@pytest.mark.parametrize("second", [{"member": 0}, {"member": 1, "more": 1}, {}])
def test_a_row_of_no_member_or_of_one_twice_is_refused(tmp_path, second):
    with shared_run(tmp_path / "run", {}) as directory:
        directory.append_row(ROWS, {"member": 0})
        directory.append_row(ROWS, second)
        with pytest.raises(InputError, match=r"rows\.jsonl: line 2 is not a row of this run, or "):
            runner.earlier_rows(directory, ROWS, lambda row: member_of(row) if row else None)


def test_missing_rows_are_saved_as_they_come_and_earlier_ones_stay(tmp_path, capsys):
    seen = []

    def missing(rows):
        seen.append(set(rows))
        for member in (0, 1, 2):
            yield {"member": member}
            if member == 1:
                raise RunError("a loss is not finite")

    def rows(directory, measure):
        return runner.all_rows(directory, ROWS, member_of, measure, total=3, what="members")

    with shared_run(tmp_path / "run", {}) as directory:
        with pytest.raises(RunError):
            rows(directory, missing)
        assert directory.read_rows(ROWS) == [{"member": 0}, {"member": 1}]
        assert capsys.readouterr().err == ""
        found = rows(directory, lambda rows: ({"member": member} for member in (1, 2)))
        assert list(found) == [0, 1, 2]
        assert directory.read_rows(ROWS) == list(found.values())
    assert seen == [set()]
    assert capsys.readouterr().err == "resuming: 2 of 3 members are done\n"


def test_a_row_that_could_not_be_read_again_is_not_written(tmp_path):
    wrong = lambda rows: ({"member": member, "more": 1} for member in (0, 1))
    with shared_run(tmp_path / "run", {}) as directory:
        with pytest.raises(ValueError, match="would refuse"):
            runner.all_rows(directory, ROWS, member_of, wrong, total=1, what="members")
        assert directory.read_rows(ROWS) == []


def test_numbers_have_names():
    assert runner.has_numbers({"a": 1.0, "b": [0.5, 2.0]}, ("a", "b"))
    for wrong in ({"a": 1.0}, {"b": 1.0, "a": 1.0}, {"a": 1, "b": 1.0}, {"a": 1.0, "b": []}, None):
        assert not runner.has_numbers(wrong, ("a", "b"))
