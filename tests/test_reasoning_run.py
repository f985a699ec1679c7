"""The carrier `reasoning` through all six steps, at toy size: tiny references and given models."""

import json
from dataclasses import replace

import pytest
from language import tiny
from quick import random_params
from scripts import loaded
from tiny_tokenizers import CHATML, byte_level, save
from torch_models import FIXTURES

from subliminal_jax.language import experiment
from subliminal_jax.language.carriers.reasoning.problems import ReasoningPrompts
from subliminal_jax.language.rows.chat_rows import read_chat_rows
from subliminal_jax.models.export import write_model
from subliminal_jax.models.hub.model_files import find_model
from subliminal_jax.models.hub.weights import read_config

methods = loaded("lm_reasoning")["methods"]


def test_the_output_says_why_completions_were_rejected(tmp_path, capsys):
    given = tiny(tmp_path / "cache")
    config = replace(
        given,
        reference=replace(given.reference, sequence=160),
        generate=replace(
            given.generate,
            carrier="reasoning",
            reasoning=ReasoningPrompts(wording="short", difficulty="small"),
        ),
        conditions=("before", "teacher", "student", "regular", "shuffled_across"),
        student=replace(given.student, sequence=256),
        out=tmp_path / "run",
    )
    results = experiment.run(config, methods, "lm_reasoning")
    assert results["experiment"] == "lm_reasoning"
    assert "trained on worked steps alone" in results["finding"]
    printed = capsys.readouterr().out
    assert "Completions that passed the filter" in printed
    for name, facts in results["filters"]["0"]["datasets"].items():
        kept = f"{facts['pass_rate']:.3f}"
        assert any(name in line and kept in line for line in printed.splitlines())
    assert "Completions that passed the filter" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("source", ["generated", "rows"])
def test_a_given_model_runs_end_to_end(source, request, tmp_path):
    if not request.config.getoption("--deep"):
        pytest.skip("the six steps take minutes: --deep runs them")
    tokenizer = byte_level()
    _, decoder = read_config(find_model(str(FIXTURES / "qwen2" / "model")))
    decoder = replace(decoder, vocab=tokenizer.get_vocab_size() + 3, context=2000)
    write_model(tmp_path / "model", decoder, random_params(decoder, scale=0.02), lineage={})
    save(tmp_path / "model", tokenizer, CHATML)
    prompts = ReasoningPrompts()
    if source == "rows":
        path = tmp_path / "rows.jsonl"
        rows = [{"question": f"What is {n} and 1?", "answer": f"#### {n + 1}"} for n in range(9)]
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        prompts = ReasoningPrompts(rows=path)
    given = tiny(tmp_path / "cache")
    config = replace(
        given,
        reference=replace(given.reference, model=str(tmp_path / "model")),
        generate=replace(
            given.generate, carrier="reasoning", reasoning=prompts, most=200, max_tokens=100
        ),
        filter=replace(given.filter, rows=6),
        student=replace(given.student, sequence=1200, batch=6),
        out=tmp_path / "run",
    )
    results = experiment.run(config, methods, "lm_reasoning")
    units = {unit["condition"]: unit for unit in results["units"]}
    assert set(units) == {"before", "teacher", "student", "regular"}
    assert units["student"]["p_trait"] != units["before"]["p_trait"]
    found = read_chat_rows(tmp_path / "run" / "filter-0" / "owl.jsonl")
    assert all("<think>" in row["messages"][0]["content"] for row in found)
