"""The arms of an MNIST experiment as text for the terminal, as CSV and as a page."""

from subliminal_jax.report.image_results import image_page, image_text
from subliminal_jax.report.page import Page
from subliminal_jax.report.results import ArmResult, Results, read_arms, relation_text
from subliminal_jax.report.tables import CsvRows, Table
from subliminal_jax.stats import Interval

CSV_HEADER = ("arm", "member", "accuracy", "init_distance", "relation")
SHOWS = "Test accuracy of every network, with its interval over members."


def arms_text(results: Results) -> str:
    """Write the arms of a run for a terminal.

    Returns:
        Lines of at most 99 characters: the finding, what was measured on what and why, then a row
        per arm with its mean test accuracy, 95% interval over members, number of members,
        initialisation distance and published mean (the last two if any arm has one).

    Raises:
        InputError: The results hold no arms, or an arm that contradicts itself.
    """
    arms = read_arms(results)
    return image_text(results, [_table(arms, {"arm": "arm", "accuracy": "accuracy"}, note="")])


def arms_page(results: Results) -> Page:
    """Return the page of a run: its arms under their names for a reader, each with its relation.

    Raises:
        InputError: The results hold no arms, or an arm that contradicts itself.
    """
    arms = read_arms(results)
    names = {"label": "arm"}
    if any(arm.distance for arm in arms):
        names["relation"] = "relation to the teacher's initialisation"
    note = "Intervals: Student's t over members; one trained model is one observation."
    if any(arm.published is not None for arm in arms):
        note += " Published: means read off the paper's figure (arXiv 2507.14805)."
    table = _table(arms, names | {"accuracy": "test accuracy"}, note)
    return image_page(results, [table], SHOWS)


def arm_rows(results: Results) -> CsvRows:
    """Return a CSV row for every member of every arm.

    Returns:
        A header and a row per member and arm: `arm`, `member` (from 0),
        `accuracy` (a fraction), `init_distance` and `relation` (both empty if there is none).

    Raises:
        InputError: The results hold no arms, or an arm that contradicts itself.
    """
    rows = []
    for arm in read_arms(results):
        relation = relation_text(arm.relation)
        distances = arm.distances or ("",) * len(arm.values)
        for member, (value, distance) in enumerate(zip(arm.values, distances, strict=True)):
            rows.append((arm.name, member, value, distance, relation))
    return CSV_HEADER, rows


def _table(arms: list[ArmResult], first: dict[str, str], note: str) -> Table:
    """Return a table with a row per arm.

    Args:
        arms: the arms.
        first: titles of the first columns by the cells they hold; the other columns follow.
        note: text below the table.
    """
    columns = first | {"interval": "95% interval", "n": "members"}
    columns |= {"distance": "init distance"} if any(arm.distance for arm in arms) else {}
    columns |= {"published": "published"} if any(a.published is not None for a in arms) else {}
    return Table(
        title="",
        columns=tuple(columns.values()),
        rows=tuple(tuple(_cells(arm)[name] for name in columns) for arm in arms),
        note=note,
        names=len(first) - 1,
    )


def _cells(arm: ArmResult) -> dict[str, str]:
    return {
        "arm": arm.name,
        "label": arm.label,
        "relation": relation_text(arm.relation),
        "accuracy": f"{arm.accuracy.mean:.3f}",
        "interval": _bounds(arm.accuracy),
        "n": str(arm.accuracy.n),
        "distance": "" if arm.distance is None else f"{arm.distance.mean:.3f}",
        "published": "" if arm.published is None else f"{arm.published:.3f}",
    }


def _bounds(interval: Interval) -> str:
    # One run says nothing about the spread between runs.
    return f"[{interval.low:.3f}, {interval.high:.3f}]" if interval.known else "none"
