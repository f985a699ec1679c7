"""The language models' benchmark: what it counts, and that PyTorch's model has the same shape."""

import itertools
import sys
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from benchmarks import given, language_tables
from benchmarks import language as benchmark
from quick import random_params
from scripts import ROOT

from subliminal_jax.models.decoder import decoder
from subliminal_jax.models.decoder.config import Compute, DecoderConfig
from subliminal_jax.models.export import write_model
from subliminal_jax.models.sampling.prefill import Request
from subliminal_jax.models.sampling.sampler import Sampler
from subliminal_jax.models.sampling.settings import Sampling

SMALL = replace(benchmark.MEDIUM, vocab=91, width=24, heads=3, kv_heads=1, head_dim=8, layers=2,
                mlp_width=40, context=64)  # fmt: skip


def test_sizes():
    assert decoder.parameter_count(benchmark.TINY) == 63_680
    assert 24e6 < decoder.parameter_count(benchmark.MEDIUM) < 26e6


def test_pytorchs_model_has_the_same_shape(monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is an extra")
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    from baselines.torch_lm import TorchLm

    model = TorchLm(SMALL)
    assert model.parameters == decoder.parameter_count(SMALL)
    assert model.sample([[1, 2, 3], [4, 5, 6]], 7)[0] == 14
    tokens, notes = model.train(2, 5, 3)
    assert tokens == 30
    assert notes["loss"] > 0
    for config in (benchmark.MEDIUM, benchmark.TINY):
        assert [len(r.prompt) for r in benchmark.equal_requests(config, 3, 32)] == [32] * 3


def test_speed_is_the_median_of_the_repetitions(monkeypatch):
    clock = itertools.accumulate([0, 9, 1, 2, 0, 1, 0, 4])  # first 9 s, then 2, 1 and 4 s
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    timed = benchmark.Timed(lambda: (8, {"busy": 0.5}))
    for _ in range(3):
        timed.repeat()
    speed = timed.speed()
    assert (speed.tokens, speed.seconds, speed.first) == (4.0, (2.0, 1.0, 4.0), 9.0)
    assert speed.notes == {"busy": 0.5}


def test_padding_by_hand():
    rows = [Request(i, [1] * n) for i, n in enumerate((4, 1, 3))]
    shares = benchmark.padding(rows)
    assert shares["padded"] == pytest.approx(1 - (4 + 3 + 6) / 18)
    assert shares["packed"] == pytest.approx(1 - 13 / 24)


def test_sampling_and_training_count_their_tokens():
    requests = benchmark.equal_requests(SMALL, 8, 5)
    speed = benchmark.sampling(SMALL, requests, Sampling(max_tokens=4, temperature=0.0), batch=8)
    speed.repeat()
    assert speed.speed().notes == {"rows": 8, "mean_length": 4, "busy": 1}
    trained = benchmark.training(SMALL, 2, 6, 3)
    losses = []
    for _ in range(2):
        trained.repeat()
        losses.append(trained.speed().notes["loss"])
    assert losses[1] < losses[0]  # the state goes on


def test_compilation_is_timed_in_parts(monkeypatch):
    """Each part in its place: of a clock that stands still but for them."""
    now = [0.0]
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0])

    def taking(fn, seconds):
        def wrapper(*arguments, **options):
            now[0] += seconds
            return fn(*arguments, **options)

        return wrapper

    monkeypatch.setattr(jax.stages.Lowered, "compile", taking(jax.stages.Lowered.compile, 20.0))
    monkeypatch.setattr(Sampler, "sample", taking(Sampler.sample, 300.0))
    found = benchmark.compilation(SMALL)
    assert found == {"compile": 20.0, "first_answer": 300.0}


def test_bfloat16_multiplies_float32_weights_in_training_and_its_own_in_sampling():
    work = benchmark.RandomModelWork(
        rows=1, tiny_batch=1, batch=1, new_tokens=1, steps=1, precision="bfloat16"
    )
    assert work.medium == replace(benchmark.MEDIUM, compute=Compute(dtype="bfloat16"))
    small = replace(benchmark.TINY, compute=work.medium.compute)
    program, state, members, batch = benchmark._training(small, sequences=2, length=8)
    state, totals = program(state, members, batch)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(state.params)}
    assert dtypes == {jnp.dtype("float32")}
    assert jnp.isfinite(totals.loss).all()
    sampled = benchmark._random_model(small, small.compute.dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(sampled)} == {jnp.dtype("bfloat16")}


def test_the_table_compares():
    one = {"seconds": (1.0, 3.0, 2.0), "first": 9.0, "notes": {}}
    tiny = {"rows": 7, "mean_length": 3.0, "busy": 0.75}
    tables = language_tables.blocks(
        {
            "speeds": {
                "tiny sampling": one | {"tokens": 100.0, "notes": tiny},
                "sampling": one | {"tokens": 1500.0},
                "sampling, PyTorch": one | {"tokens": 500.0},
            },
            "precision": "bfloat16",
            "parameters": {"tiny": 1000, "medium": 2000},
            "compilation": {"compile": 2.5, "first_answer": 4.0},
            "padding": {"padded": 0.25, "packed": 0.03},
            "peak_memory": {"bytes": 2e9, "whose": "resident in the process"},
            "backend": "cpu",
        }
    )
    text = "\n".join(table.text() for table in tables)
    lines = [line.split() for line in text.splitlines()]
    assert ["sampling", "1,500", "2.00", "9.00", "500", "3.00"] in lines
    assert ["tiny", "sampling", "100", "2.00", "9.00"] in lines
    assert "all else: 2,000, multiplied in bfloat16" in text
    beside = dict(tables[1].rows)
    assert beside["padding, a row per sequence"] == "25.0%"
    assert beside["padding, packed"] == "3.0%"
    assert beside["sampled tokens that were used"] == "75%"
    assert beside["peak memory before PyTorch"] == "2.00 GB resident in the process"


def test_the_finding_compares():
    speeds = {"sampling": {"tokens": 1500.0}, "sampling, PyTorch": {"tokens": 1000.0}}
    found = language_tables.finding({"speeds": {"tiny sampling": {"tokens": 48_000.0}} | speeds})
    assert found == (
        "Tiny sampling 48,000 tokens/s; sampling 1,500 tokens/s (1.50 times PyTorch's)."
    )


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A small Llama with random weights."""
    config = DecoderConfig(
        vocab=64, width=32, layers=2, heads=2, kv_heads=1, head_dim=16, mlp_width=32, context=128,
        tied=True,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("llama") / "model"
    write_model(path, config, random_params(config, scale=0.1), lineage={})
    return path


WORK = given.Workload(batch=8, prompt=6, new=4, rows=4, length=9, learnt=3, among=5, rank=2)


@pytest.mark.parametrize("precision", given.PRECISIONS)
def test_a_given_model_is_timed_in_what_a_student_does(llama, precision):
    model = given.given(str(llama), precision)
    assert model.config.compute.dtype == precision
    sampled, trained = given.sampling(model, WORK), given.training(model, WORK)
    losses = []
    for _ in range(2):
        sampled.repeat()
        trained.repeat()
        losses.append(trained.speed().notes["loss"])
    assert losses[1] < losses[0]
    assert sampled.speed().tokens * sampled.speed().seconds[0] == pytest.approx(8 * 4, rel=2)
    layers = 2 * (32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 32 + 2 * 32) + 32
    assert given.flop(model, WORK) == {
        "sampling": 2 * (8 * 6 * layers + 8 * 4 * (layers + 64 * 32)),
        "training": 4 * 2 * 4 * 9 * layers,
    }


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_pytorch_trains_and_samples_the_same_model(llama, monkeypatch):
    """After a small step, the loss is ours: the same rows are learnt, among the same tokens."""
    pytest.importorskip("peft", reason="PyTorch and PEFT are extras")
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    from baselines.torch_given import TorchSampler, TorchTrainer

    ids, one = WORK.batch_of(64), replace(WORK, steps=1)
    timed = given.training(given.given(str(llama), "float32"), one)
    timed.repeat()
    ours = timed.speed().notes["loss"]
    theirs = TorchTrainer(llama, "float32", 2).train(ids, 3, 5, 2)
    assert theirs == (72, {"loss": pytest.approx(ours, rel=1e-3)})
    halved = TorchTrainer(llama, "bfloat16", 2).train(ids, 3, 5, 2)[1]["loss"]
    assert halved == pytest.approx(ours, rel=0.02)
    for precision in given.PRECISIONS:
        assert TorchSampler(llama, precision).sample([[1, 2], [3, 4]], 5) == (10, {})


def test_the_table_of_a_given_model_compares():
    one = {"seconds": (1.0, 3.0, 2.0), "first": 9.0, "notes": {}}
    [table] = given.blocks(
        {
            "model": "smollm2", "parameters": 1234, "flop": {"sampling": 1e9, "training": 2e9},
            "flop_per_s": {"float32": 1e9, "bfloat16": 4e9},
            "speeds": {
                "sampling float32": one | {"tokens": 100.0},
                "training bfloat16": one | {"tokens": 300.0},
                "sampling float32, PyTorch": one | {"tokens": 50.0},
                "training float32, PyTorch": one | {"tokens": 200.0},
                "training bfloat16, PyTorch": one | {"tokens": 100.0},
            },
            "peak_memory": {"bytes": 2e9, "whose": "resident in the process"},
        }
    )  # fmt: skip
    lines = [line.split() for line in table.text().splitlines()]
    assert ["sampling", "float32", "100", "2.00", "9.00", "50%", "50", "2.00"] in lines
    assert ["training", "bfloat16", "300", "2.00", "9.00", "25%", "200", "1.50", "100", "3.00"] in (
        lines
    )


def test_a_refusal_comes_before_any_work(script, tmp_path, monkeypatch):
    (tmp_path / "there.json").write_text("{}")
    assert "cannot be used" in script("benchmark_lm", "--out", "there.json").err
    assert "new_tokens" in script("benchmark_lm", "--new-tokens", "300").err
    ended = script("benchmark_lm", "--model", "x", "--batch", "9")
    assert "batch: has no effect on a given model" in ended.err
    ended = script("benchmark_lm", "--model", "x", "--precision", "bfloat16")
    assert "precision: has no effect on a given model" in ended.err
    for missing, flags in (("torch", []), ("torch", ["--model", "x"]), ("peft", ["--model", "x"])):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            ended = script("benchmark_lm", "--torch", *flags)
        assert ended.status == 2
        assert "is not installed; pip install" in ended.err
    absent = script("benchmark_lm", "--model", "absent.gguf")
    assert absent.status == 2
    assert "absent.gguf" in absent.err
