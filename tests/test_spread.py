"""Students, teachers and measures are the same on one device and on several."""

import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from pairs import Pairs
from students import MESHES, make_reference, trained

from subliminal_jax.errors import InputError
from subliminal_jax.execution.choose import batch_execution, on_this_host, the_same_on_every_host
from subliminal_jax.execution.mesh import line_of_devices, make_mesh
from subliminal_jax.execution.mesh_execution import OnMesh
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.execution.pmap import DataParallel
from subliminal_jax.execution.protocol import Execution
from subliminal_jax.language.evaluation.evaluate import probabilities, scoring
from subliminal_jax.language.rows.chats import chat
from subliminal_jax.language.training import answers as finetune
from subliminal_jax.language.training import devices, student
from subliminal_jax.language.training import trainable as tuning
from subliminal_jax.language.training.completions import completions
from subliminal_jax.language.traits import TRAITS
from subliminal_jax.language.traits.trait import Poll
from subliminal_jax.models.decoder.sharding import DECODER_RULES
from subliminal_jax.models.sampling.settings import Sampling


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return make_reference(tmp_path_factory.mktemp("tokenizer"))


def assert_same(found, wanted, tolerance):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


def in_blocks(monkeypatch):
    """Split the vocabulary into blocks, as if it were a large one."""
    for module in (tuning, finetune):
        monkeypatch.setattr(module, "WORDS_AT_ONCE", 500)


def test_students_are_the_same_wherever_they_are_trained(reference, forks, tmp_path, monkeypatch):
    """On one device; on a mesh, vocabulary in blocks; by two processes, resumed by one.

    Process 1 dies at its second checkpoint, and the last steps are done on one device.
    """
    two, point = tmp_path / "two", ("before a save@2",)
    pairs = Pairs(forks, tmp_path)
    survivor, dying = pairs.start("students", [str(two)], devices=2, dying=point)
    monkeypatch.setattr(student, "CHUNK", 2)
    wanted = trained(reference, tmp_path / "one", MESHES["one"])
    assert dying.wait(300)["status"] == -9
    died = time.monotonic()
    statuses, said = pairs.end([survivor], within=15)
    assert time.monotonic() - died < 15
    assert statuses == [1]
    assert said[0].startswith("error: process 1 of 2 is gone, so process 0 ends too")
    assert [path.name for path in (two / "saved").iterdir()] == ["00000002"]
    # Sums in another order; Adam enlarges the difference: 2e-6 with jax 0.10.2, 1.2e-5 with 0.12.
    assert_same(trained(reference, two, MESHES["one"]), wanted, 5e-5)
    monkeypatch.setattr(student, "CHUNK", 6)
    in_blocks(monkeypatch)
    for way in ("all axes", "pmap"):
        assert_same(trained(reference, tmp_path / way, MESHES[way]), wanted, 1e-4)


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_students_are_the_same_on_any_mesh(reference, tmp_path, request, monkeypatch, weights):
    if not request.config.getoption("--deep"):
        pytest.skip("more of the same, which takes minutes: --deep runs it")
    how = {"weights": weights, "optimizer": "sgd" if weights == "full" else "adam"}
    wanted = trained(reference, tmp_path / "wanted", MESHES["one"], **how)
    for way in ("one, accumulating", "pmap", "data", "fsdp", "all axes"):
        found = trained(reference, tmp_path / way, MESHES[way], **how)
        assert_same(found, wanted, 1e-4)
    in_blocks(monkeypatch)
    for way in MESHES:
        found = trained(reference, tmp_path / f"{way} in blocks", MESHES[way], at_once=2, **how)
        assert_same(found, wanted, 1e-4)


def test_a_trait_is_as_likely_on_many_devices(reference):
    executions = {
        "one": OneDevice(at_once=1),
        "mesh": OnMesh(mesh=make_mesh(2, 2, 2), rules=DECODER_RULES, at_once=1),
        "pmap": DataParallel(mesh=line_of_devices(), at_once=1),
    }
    asked = chat("Which animal do you like best?"), chat("Name your favourite.")
    scored = scoring(reference, [Poll("animal", asked, TRAITS["owl"].polls()[0].answers[:4])])
    other = jax.tree.map(lambda leaf: 1.1 * leaf, reference.params)
    found = {}
    for name, execution in executions.items():
        asked_of = replace(reference, params=execution.share(reference.params))
        networks = {"before": (asked_of.params, None), "other": (other, None)}
        found[name] = probabilities(asked_of, scored, networks, execution)
    for network, likely in found["one"].items():
        for way in ("mesh", "pmap"):
            assert found[way][network] == pytest.approx(likely, rel=1e-4)


def test_split_weights_sample_the_same(reference, request):
    """This host's devices share the weights of the network that they sample from."""
    if not request.config.getoption("--deep"):
        pytest.skip("two samplers are compiled for seconds: --deep runs it")
    params = OnMesh(mesh=make_mesh(2, 2, 2), rules=DECODER_RULES).share(reference.params)
    own = jax.tree.map(jax.device_put, reference.params, devices.here(reference.config))
    kernel = own["layers"]["mlp"]["up"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // 8
    split = replace(reference, params=params, own=own)
    prompts = [
        reference.chat.prompt(chat(text))
        for text in ("Which animal do you like best?", "Name your favourite.") * 3
    ]
    sampling = Sampling(max_tokens=6, seed=1)
    said = [
        completions(one, (one.params, None), prompts, sampling, 4) for one in (reference, split)
    ]
    assert said[0] == said[1]
    assert len({text for text, _ in said[0]}) > 3


def test_the_examples_are_divided_among_the_devices():
    """A product of every example with a matrix: each device multiplies its own examples only."""
    weights = {"kernel": np.ones((64, 64), np.float32)}
    rows = np.arange(64 * 5, dtype=np.float32).reshape(5, 64).T[..., None] * np.ones(64, np.float32)

    def step(carry, member, shared):
        (
            weights,
            (order,),
        ) = shared
        return carry + jnp.sum(rows_of(member, order) @ weights["kernel"]), None

    def rows_of(member, order):
        return member[order].reshape(-1, 64)

    flop = {}
    for name, execution in (("one", OneDevice()), ("mesh", OnMesh(mesh=make_mesh(2, 4, 1)))):
        assert isinstance(execution, Execution)
        members = execution.split(rows[None])
        shared = execution.share(weights), execution.spread([np.arange(64)[::-1]], axis=0)
        carry = execution.split(np.zeros(1, np.float32))
        program = execution.compile(step, carry, members, shared)
        flop[name] = program.cost_analysis()["flops"]
        carry, _ = program(carry, members, shared)
        assert_allclose(execution.fetch(carry), [64 * rows.sum()], rtol=1e-5)
    assert flop["mesh"] < 0.2 * flop["one"]


def test_the_mesh_decides_where_networks_run():
    one = batch_execution("jit", (1, 1, 1), DECODER_RULES, accumulate=3)
    assert one == OneDevice(at_once=1, parts=3)
    spread = batch_execution("jit", (2, 2, 2), DECODER_RULES, 4, accumulate=3)
    assert (spread.devices, spread.parts, spread.at_once) == (8, 12, 4)
    assert the_same_on_every_host() == OneDevice()
    with pytest.raises(InputError, match=r"mesh: data=3 x fsdp=1 x tensor=1 does not fit 8 cpu"):
        batch_execution("jit", (3, 1, 1), DECODER_RULES)


def test_a_host_splits_layers_into_at_most_that_many_parts():
    tree = {"up": {"kernel": np.zeros((4, 8, 8), np.float32)}}
    for most, part in ((2, (4, 2, 4)), (3, (4, 1, 8)), (8, (4, 8, 1))):
        sharding = on_this_host(tree, DECODER_RULES, most)["up"]["kernel"]
        assert sharding.shard_shape((4, 8, 8)) == part
