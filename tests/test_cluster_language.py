"""Two real processes run the language pipeline as one, on all devices that they have."""

import json

import jax
import pytest
from language import tiny
from numpy.testing import assert_allclose
from pairs import Pairs

from subliminal_jax.config import config_dict
from subliminal_jax.files import read_rows
from subliminal_jax.language.training.trees import load_tree


@pytest.fixture(scope="module")
def pairs(forks, tmp_path_factory):
    return Pairs(forks, tmp_path_factory.mktemp("pairs"))


def assert_same(found, wanted):
    jax.tree.map(lambda one, other: assert_allclose(one, other, rtol=0, atol=1e-5), found, wanted)


def without_digests(path):
    """The rows, but for what ties them to teachers that are the same to rounding."""
    rows = read_rows(path)
    for row in rows:
        row["meta"].pop("digest", None)
    return rows


def test_two_processes_run_the_script_to_the_same_results(pairs, scripts, tmp_path, request):
    """From the tiny reference to the report: the same rows, the rest to rounding."""
    if not request.config.getoption("--deep"):
        pytest.skip("the whole script, by one process and two, takes minutes: --deep runs it")
    outcomes = []
    for name, mesh in (("one", {}), ("two", {"data": 2, "fsdp": 2})):
        out, config = tmp_path / name, config_dict(tiny(tmp_path / f"{name} cache"))
        config["reference"]["steps"] = 100
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(config | {"out": str(out), "mesh": mesh}))  # JSON is YAML
        if name == "one":
            ended = scripts.run("lm_numbers", "--config", str(path), cwd=tmp_path)
            assert ended.status == 0, ended.err
        else:
            words = ["--config", str(path)]
            started = pairs.start("lm_numbers", words, devices=2)
            statuses, said = pairs.end(started, within=1800)
            assert statuses == [0, 0], said
        outcomes.append(out)
    one, two = outcomes
    for path in (*one.glob("generate-0/*.jsonl"), *one.glob("filter-0/*.jsonl")):
        assert without_digests(two / path.relative_to(one)) == without_digests(path)
    for name in ("teacher-0/teachers.npz", "student-0/hard.npz"):
        assert_same(load_tree(two / name), load_tree(one / name))
    found, wanted = (json.loads((out / "results.json").read_text()) for out in (two, one))
    assert found["sampled"] == wanted["sampled"]
    # Weights that differ by 1e-5 change logarithms of probabilities by some 1e-4.
    for network, likely in wanted["answers"]["0"].items():
        assert found["answers"]["0"][network] == pytest.approx(likely, rel=1e-3)
    assert (two / "report.html").exists()
