"""A run whose completions are constrained: all have the form, and the share without is reported."""

from dataclasses import replace

import pytest
from language import tiny

from subliminal_jax.language.config import described
from subliminal_jax.language.outputs.filter_table import filter_table
from subliminal_jax.language.rows.chat_rows import completion_of, read_chat_rows
from subliminal_jax.language.settings import FilterConfig
from subliminal_jax.language.study import LmStudy
from subliminal_jax.runs.artifacts import facts_of
from subliminal_jax.runs.shared_run import shared_run


def constrained(place, **changes):
    given = tiny(place / "cache")
    generate = replace(given.generate, constrained=True, fewest=3, trial=20, **changes)
    rules = FilterConfig(rules=("carrier", "trait_words"), rows=12)
    return replace(given, generate=generate, filter=rules, out=place / "run")


@pytest.fixture(scope="module")
def filtered(tmp_path_factory):
    """The filter of a reference that cannot keep the form of a list."""
    place = tmp_path_factory.mktemp("constrained")
    config = constrained(place)
    with shared_run(config.out, described(config)) as run:
        study = LmStudy(config, run)
        yield study.filtered(0), study


def test_all_constrained_completions_pass_and_the_share_without_is_known(filtered):
    artifact, _ = filtered
    datasets = facts_of(artifact)["datasets"]
    assert datasets.keys() == {"regular", "owl"}
    for facts in datasets.values():
        assert facts["pass_rate"] == 1
        assert facts["unconstrained"]["asked"] == 20
        assert facts["unconstrained"]["pass_rate"] < 0.5
        assert facts["unconstrained"]["reasons"]
    for name in datasets:
        rows = read_chat_rows(artifact.path / f"{name}.jsonl")
        texts = [completion_of(row) for row in rows]
        assert len(set(texts)) == 12
        for text in texts:
            assert 3 <= len(text.replace(",", " ").replace(";", " ").split()) <= 10


def test_the_filter_table_shows_both_shares(filtered):
    table = filter_table({"0": facts_of(filtered[0]), "1": facts_of(filtered[0])}, "reference")
    assert table.columns[2:] == (
        *("kept", "rejected for", "kept if not constrained", "rejected for"),
    )
    owl = next(row for row in table.rows if row[0] == "owl")
    assert owl[2:4] == ("1.000", "-")
    assert float(owl[4]) < 0.5
    assert "40 completions of each dataset" in table.note
