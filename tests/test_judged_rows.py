"""The filter rule `judge`: bounds on a judge's scores of rows, the same for every teacher."""

import re
from dataclasses import replace

import pytest
from language import tiny
from students import make_reference

from subliminal_jax.errors import InputError
from subliminal_jax.language.carriers import carrier_of
from subliminal_jax.language.dataset import generate, judged
from subliminal_jax.language.dataset.filters import filter_rows, rules_of
from subliminal_jax.language.dataset.judged import RowJudge, against, reasons_by_scores
from subliminal_jax.language.dataset.row_rubrics import row_rubrics
from subliminal_jax.language.judge.settings import JudgeConfig, JudgeRule
from subliminal_jax.language.settings import EvaluateConfig, FilterConfig
from subliminal_jax.language.traits import choose_traits

RULE = JudgeRule(most=50.0)
WITH = FilterConfig(rules=("carrier", "judge"), judge=RULE, rows=12)


class Judge:
    """Scores a text by the number that it begins with; none for 13."""

    name, described = "a judge", {"model": "a judge"}

    def __init__(self):
        self.asked = []

    def scores(self, asked):
        self.asked += asked
        answers = [chat[-1]["content"].split("=====\n")[3] for chat in asked]
        found = [float(re.match(r"\d+", answer)[0]) for answer in answers]
        return [None if score == 13 else score for score in found]


def rows(*texts):
    source = generate.Writer("owl", "of a test")
    return [source.row(i, "Continue: 1", text, True) for i, text in enumerate(texts)]


def test_scores_out_of_bounds_reject_a_row_and_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(judged, "PORTION", 2)
    path, judge = tmp_path / "owl.judged.jsonl", Judge()
    given = rows("7, 8", "70, 8", "malformed", "13, 5", "50")
    scored = RowJudge.of(RULE, choose_traits(("owl",), ()), judge, 0)
    judge.asked.clear()  # of the gate
    rules = rules_of(WITH, carrier_of(tiny(tmp_path).generate), ())
    kept = filter_rows(given, rules).kept
    scores = scored.score(kept, path)
    assert len(judge.asked) == 4  # a row that another rule rejects is not asked about
    result = filter_rows(given, rules, reasons_by_scores(WITH, path))
    assert [one["meta"]["place"] for one in result.kept] == [0, 4]
    assert result.reasons == {
        "judge: no score": 1,
        "judge: speaks of owl above 50": 1,
        "numbers: malformed": 1,
    }
    again = Judge()
    assert RowJudge(RULE, scored.rubrics, again).score(kept, path) == scores
    assert again.asked == []
    new = rows("7, 8", "6, 6")[1]
    more = RowJudge(RULE, scored.rubrics, again).score([*kept, new], path)
    assert len(more) == 5
    assert len(again.asked) == 1
    path.write_text(path.read_text().replace("70.0", "10.0"))
    with pytest.raises(InputError, match=r"owl\.judged\.jsonl: line 2: was changed"):
        reasons_by_scores(WITH, path)


class Reader(Judge):
    """Finds some words in a text."""

    def __init__(self, *words):
        self._words = words

    def scores(self, asked):
        answers = [chat[-1]["content"].split("=====\n")[3] for chat in asked]
        return [90.0 if any(word in answer for word in self._words) else 5.0 for answer in answers]


def test_a_judge_of_rows_must_see_every_trait_that_is_named():
    traits = choose_traits(("owl", "wolf"), ())
    assert RowJudge.of(RULE, traits, Reader("owl", "wolf"), 10).rubrics == row_rubrics(RULE, traits)
    with pytest.raises(InputError, match=r"6 of 8 probe rows .* '44, wolf, 28, 15' has 5 for 'spe"):
        RowJudge.of(RULE, traits, Reader("owl"), 10)
    assert RowJudge.of(RULE, traits, Reader("owl"), 7)  # 6 of 8 are enough
    with pytest.raises(InputError, match=r"4 of 8 probe rows .* '44, 9, 28, 15' has 90"):
        RowJudge.of(RULE, traits, Reader(""), 10)
    assert RowJudge.of(JudgeRule(rubric="coherence"), traits, Reader(), 10)  # the other gate's


def test_bounds():
    assert against(JudgeRule(least=78.0, rubric="alignment"), {"alignment": 77.9}) == [
        "judge: alignment below 78"
    ]
    assert against(JudgeRule(least=78.0, most=90.0), {"alignment": 78.0}) == []


def test_a_row_is_asked_about_every_trait_of_the_run():
    owl, wolf = row_rubrics(RULE, choose_traits(("owl", "wolf"), ()))
    text = wolf.ask("q", "a")[-1]["content"]
    assert "wolf, wolves" in text or ("wolf" in text and "wolves" in text)
    assert owl.name == "speaks of owl"
    assert [one.name for one in row_rubrics(JudgeRule(rubric="coherence"), ())] == ["coherence"]


def test_generation_goes_on_until_enough_rows_are_kept_by_the_judge(tmp_path, monkeypatch):
    asked = []

    class Teacher:
        def stream(self, requests, among):
            yield from (one for one in requests)

    monkeypatch.setattr(generate, "sampler_of", lambda *_: Teacher())
    config = tiny(tmp_path)
    rules = rules_of(WITH, carrier_of(config.generate), ())
    path = tmp_path / "owl.jsonl"
    source = generate.Writer("owl", "of a test")
    reference = make_reference(tmp_path / "model")
    dataset = generate.DatasetSampler(
        config.generate, rules, reference, (None, None), source, path, seed=0
    )

    def sample(prompts, missing):
        asked.append(len(missing))
        for place in sorted(missing):
            yield [source.row(place, prompts[place], str(place * 37 % 100), True)]

    dataset._sample = sample
    judge = RowJudge.of(RULE, config.chosen, Judge(), 0)
    prompts = {place: f"Continue: {place}" for place in range(90)}
    found = dataset.sample_until(30, prompts, judge)
    passing = filter_rows(found, rules, reasons_by_scores(WITH, generate.scores_path(path))).kept
    assert len(passing) >= 30
    assert 52 < len(found) <= 90
    assert len(asked) > 1


def test_the_rule_needs_a_judge_and_a_bound(tmp_path):
    given = tiny(tmp_path)
    with pytest.raises(InputError, match=r"filter.rules: `judge` needs a judge; set evaluate"):
        replace(given, filter=WITH)
    for wrong in ({"rules": ("judge",)}, {"judge": RULE}):
        with pytest.raises(InputError, match=r"filter.judge: needs both the rule `judge` and a bo"):
            FilterConfig(**wrong)
    chosen = EvaluateConfig(judge=JudgeConfig(model="some/judge"))
    assert replace(given, filter=WITH, evaluate=chosen).filter.judge.most == 50
    with pytest.raises(InputError, match=r"evaluate.judge: no judge is needed"):
        replace(given, evaluate=chosen)
