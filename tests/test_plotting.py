import io
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from fake_results import LAYERS, aux_results, init_results
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from scripts import ROOT

from subliminal_jax.errors import InputError
from subliminal_jax.language.evaluation.results import summarise
from subliminal_jax.plotting import bar_figure, relation_figure, render, traits_figure
from subliminal_jax.plotting.canvas import whiskers

SIZES = pytest.mark.parametrize(
    ("members", "dataset"), [(1, "mnist"), (2, "mnist"), (8, "digits"), (100, "mnist")]
)
FIGURES = pytest.mark.parametrize(
    ("draw", "results"), [(bar_figure, aux_results), (relation_figure, init_results)]
)


def texts(figure: Figure) -> list[Text]:
    """All text that is drawn: what matplotlib keeps for ticks out of view is not."""
    figure.draw_without_rendering()
    unseen = {
        tick.label1
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    found = figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible())
    return [text for text in found if text.get_text().strip() and text not in unseen]


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    return [
        (one, other)
        for (one, box), (other, other_box) in itertools.combinations(boxes, 2)
        if box.overlaps(other_box)
    ]


def error_ends(axes) -> list[tuple[float, float]]:
    """Lower and upper end of every vertical error bar, in the order drawn."""
    segments = [
        segment
        for container in axes.containers
        if container.__class__.__name__ == "ErrorbarContainer"
        for segment in container[2][-1].get_segments()
        if len(segment) > 0
    ]
    return [(segment[0][1], segment[-1][1]) for segment in segments]


def value_labels(figure: Figure) -> list[Text]:
    return [text for text in figure.axes[0].texts if text.get_text().startswith("0.")]


@pytest.mark.parametrize("members", [8, 100])
def test_bars_and_error_bars_are_the_data(members):
    results = aux_results(members)
    results["arms"]["student_aux"]["ci95"] = [0.45, 0.8]  # an interval need not be symmetric
    axes = bar_figure(results).axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == [arm["mean"] for arm in results["arms"].values()]
    np.testing.assert_allclose(
        error_ends(axes), [arm["ci95"] for arm in results["arms"].values()], rtol=1e-12
    )
    points = [member for cloud in axes.collections for member in cloud.get_offsets()[:, 1].tolist()]
    members_drawn = [value for arm in results["arms"].values() for value in arm["values"]]
    assert set(members_drawn) <= set(points)


def test_lines_stand_at_chance_and_at_the_mean_of_the_reference():
    results = aux_results(8)
    lines = {line.get_label(): line for line in bar_figure(results).axes[0].lines}
    assert set(lines["chance (0.1)"].get_ydata()) == {0.1}
    reference = lines["mean of the reference"]
    assert set(reference.get_ydata()) == {results["arms"]["reference"]["mean"]}
    assert reference.get_linestyle() == ":"


def test_published_means_are_open_markers_only_where_known():
    results = aux_results(8)
    results["arms"]["teacher"]["published"] = None
    drawn = [
        float(line.get_ydata()[0])
        for line in bar_figure(results).axes[0].lines
        if line.get_marker() == "D"
    ]
    assert drawn == [0.0998, 0.528, 0.913, 0.106, 0.743]
    key = [text.get_text() for text in bar_figure(results).legends[0].get_texts()]
    assert "mean in the paper" in key
    unpublished = bar_figure(aux_results(8, "digits")).legends[0].get_texts()
    assert "mean in the paper" not in [text.get_text() for text in unpublished]


@FIGURES
@SIZES
def test_no_text_touches_another_or_leaves_the_sheet(draw, results, members, dataset):
    figure = draw(results(members, dataset))
    assert overlaps(figure) == []
    sheet = figure.bbox
    for text in texts(figure):
        box = text.get_window_extent()
        assert box.x0 >= sheet.x0, text
        assert box.x1 <= sheet.x1, text
        assert box.y0 >= sheet.y0, text
        assert box.y1 <= sheet.y1, text


@SIZES
def test_value_labels_clear_points_intervals_and_lines_of_their_bar(members, dataset):
    results = aux_results(members, dataset)
    results["arms"]["cross_model_aux"]["published"] = 0.7
    low = {"mean": 0.03, "values": [0.03], "n": 1, "ci95": None}
    results["arms"]["student_all"] |= low
    figure = bar_figure(results)
    figure.draw_without_rendering()
    to_data = figure.axes[0].transData.inverted()
    reference = results["arms"]["reference"]["mean"]
    labels = value_labels(figure)
    assert len(labels) == 6
    for label, arm in zip(labels, results["arms"].values(), strict=True):
        assert label.get_text() == f"{arm['mean']:.3f}"
        bottom = to_data.transform(label.get_window_extent().min)[1]
        top = to_data.transform(label.get_window_extent().max)[1]
        high = min(1.0, arm["ci95"][1]) if arm["ci95"] else 0.0
        assert bottom > max([*arm["values"], high, arm["published"] or 0.0, reference, 0.1])
        assert top <= figure.axes[0].get_ylim()[1]


def test_bounds_beyond_what_an_accuracy_can_be_end_at_zero_and_one():
    results = aux_results(2)
    results["arms"]["student_aux"] |= {"mean": 0.5, "ci95": [-2.0, 3.0]}
    assert error_ends(bar_figure(results).axes[0])[2] == (0.0, 1.0)


@pytest.mark.parametrize(("units", "drawn"), [(2, 0), (3, 1)])
def test_bounds_that_miss_the_mean_by_rounding_are_drawn(units, drawn):
    axes = Figure().subplots()
    mean = 0.1 + 0.2
    whiskers(axes, 0.0, {"mean": mean, "ci95": [np.nextafter(mean, 1), 0.3], "n": units}, "black")
    assert len(axes.containers) == drawn


@FIGURES
def test_one_member_draws_no_interval_and_says_so(draw, results):
    figure = draw(results(1))
    key = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "one member: no interval" in key
    assert [bar for axes in figure.axes for bar in error_ends(axes)] == []


@FIGURES
def test_the_heading_says_what_is_seen_and_warns_of_other_data(draw, results):
    costly = "Costs $5 and $6: <b> a_b^c"
    heading = texts(draw(results(8, "digits", finding=costly)))
    words = " ".join(text.get_text() for text in heading)
    assert costly in words
    assert not any(text.get_parse_math() for text in heading if "$" in text.get_text())
    assert "NOT MNIST: measured on digits. The MNIST archives" in words
    assert "8 members, corrected recipe" in words
    assert "1,437 training and 360 test images" in words
    plain = " ".join(text.get_text() for text in texts(draw(results(8))))
    assert "NOT MNIST" not in plain


def test_a_path_without_spaces_is_broken_to_fit():
    figure = bar_figure(aux_results(8, finding="/data" * 80))
    assert max(text.get_window_extent().x1 for text in texts(figure)) <= figure.bbox.x1
    assert overlaps(figure) == []


@pytest.mark.parametrize(
    ("panel", "kind", "dial"),
    [(0, "perturbed", "sigma"), (1, "interpolated", "t"), (2, "reinitialised", "fraction")],
)
def test_a_dial_panel_shows_its_arms_at_their_settings(panel, kind, dial):
    results = init_results(8)
    arms = [arm for arm in results["arms"].values() if arm.get("relation", {}).get("kind") == kind]
    axes = relation_figure(results).axes[panel]
    points = axes.containers[0][0]
    assert list(points.get_xdata()) == [arm["relation"][dial] for arm in arms]
    assert list(points.get_ydata()) == [arm["mean"] for arm in arms]
    np.testing.assert_allclose(error_ends(axes), [arm["ci95"] for arm in arms])


def test_every_panel_has_the_lines_and_intervals_to_compare_with():
    results = init_results(8)
    panels = relation_figure(results).axes[:5]
    for axes in panels:
        levels = {float(np.mean(line.get_ydata())) for line in axes.lines}
        bands = [(band.get_y(), band.get_y() + band.get_height()) for band in axes.patches]
        assert 0.1 in levels
        for name, band in zip(("same", "different"), bands, strict=True):
            assert results["arms"][name]["mean"] in levels
            assert band == pytest.approx(tuple(results["arms"][name]["ci95"]))
    assert len({axes.get_ylim() for axes in panels}) == 1
    labelled = [bool(axes.get_ylabel()) for axes in panels]
    assert labelled == [True, False, False, True, False]
    assert [axes.yaxis.get_tick_params()["labelleft"] for axes in panels] == labelled


def test_the_distance_panel_holds_every_measured_arm():
    results = init_results(8)
    measured = [arm for arm in results["arms"].values() if "init_distance" in arm]
    axes = relation_figure(results).axes[3]
    points = [container[0].get_xydata()[0].tolist() for container in axes.containers]
    assert points == [[arm["init_distance"]["mean"], arm["mean"]] for arm in measured]


def test_kinds_without_an_entry_have_markers_of_their_own():
    results = init_results(8)
    for i in range(5):
        results["arms"][f"new_{i}"] = results["arms"]["different"] | {
            "relation": {"kind": f"n_{i}"}
        }
    figure = relation_figure(results)
    assert overlaps(figure) == []
    [legend] = figure.legends
    new = {line.get_label(): line.get_marker() for line in legend.legend_handles
           if line.get_label().startswith("n ")}  # fmt: skip
    assert list(new) == [f"n {i}" for i in range(5)]
    assert len(set(new.values())) == 5


def test_filled_dots_name_the_layers_of_each_column():
    results = init_results(8)
    figure = relation_figure(results)
    matrix = figure.axes[5]
    filled = {
        (int(dot.get_xdata()[0]), int(dot.get_ydata()[0]))
        for dot in matrix.lines
        if dot.get_markerfacecolor() != "white"
    }
    relations = [arm["relation"] for arm in results["arms"].values() if "relation" in arm]
    shared = [relation for relation in relations if relation["kind"] == "shared_layers"]
    names = [label.get_text() for label in matrix.get_yticklabels()]
    assert sorted(names) == LAYERS
    expected = {
        (column, names.index(layer))
        for column, relation in enumerate(shared)
        for layer in relation["layers"]
    }
    assert filled == expected


def test_names_of_layers_are_no_mathematics():
    results = init_results(8)
    results["arms"]["shared_readout"]["relation"]["layers"] = ["$x$"]
    labels = relation_figure(results).axes[5].get_yticklabels()
    assert "$x$" in [label.get_text() for label in labels]
    assert not any(label.get_parse_math() for label in labels)


def test_kinds_that_were_not_run_leave_their_panel_empty():
    results = init_results(8)
    kept = ("reference", "teacher", "same", "different")
    results["arms"] = {name: results["arms"][name] for name in kept}
    figure = relation_figure(results)
    assert overlaps(figure) == []
    assert len(figure.axes) == 5


@FIGURES
def test_files_are_what_they_are_called_and_the_same_each_time(draw, results):
    rendered, again = (render(draw(results(8))) for _ in range(2))
    with Image.open(io.BytesIO(rendered.png)) as image:
        image.load()
        assert image.format == "PNG"
        assert image.width == 1600
    assert rendered.pdf.startswith(b"%PDF-")
    assert rendered.pdf.rstrip().endswith(b"%%EOF")
    assert b"/Type3" not in rendered.pdf
    assert b"CreationDate" not in rendered.pdf
    assert rendered == again


def test_results_without_arms_are_refused():
    with pytest.raises(InputError, match="no arms"):
        bar_figure(aux_results(8, arms={}))


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "no_such"])
def test_the_backend_of_a_notebook_is_not_asked_for(backend):
    """It need not be there. Neither the user's variable nor pyplot is touched."""
    code = (
        "import os, sys\nfrom subliminal_jax.plotting import render\n"
        "from matplotlib.figure import Figure\n"
        "print(render(Figure()).png[1:4].decode(), os.environ['MPLBACKEND'], "
        "'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"MPLBACKEND": backend},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"PNG {backend} False\n", done.stderr


@pytest.mark.parametrize(
    ("primary", "heights", "label"),
    [("margin", [-2.0, -1.0, 0.5], "margin (nats)"), ("p_trait", [0.1, 0.2, 0.4], "P(trait)")],
)
def test_traits_are_drawn_by_the_primary_measure(primary, heights, label):
    values = {"before": (0.1, -2.0), "student": (0.2, -1.0), "soft": (0.4, 0.5)}
    units = [
        {"reference": place, "trait": "owl", "condition": name, "p_trait": p, "margin": margin}
        for name, (p, margin) in values.items()
        for place in range(2)
    ]
    figure = traits_figure({
        "finding": "Seen.", "items": "numbers", "units": units, "config": {"traits": ["owl"]},
        "measures": {"p_trait": ["P(trait)", ""], "margin": ["margin", ""]},
        "summary": summarise(units, ["owl"], primary),
    })  # fmt: skip
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx(heights)
    assert axes.get_ylabel() == label
    assert not overlaps(figure)
    assert (axes.get_ylim() == (0.0, 1.0)) == (primary == "p_trait")
