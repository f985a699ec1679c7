"""Real processes that train together on loopback, and what happens when one of them is missing."""

import json
import os
import shutil
import threading
import time

import jax
import pytest
from numpy.testing import assert_allclose
from pairs import Pairs, free_port
from sampled import sampled
from trainer import EXECUTIONS, first_state, saving_in, train

from subliminal_jax.errors import InputError, RunError, Stopped
from subliminal_jax.execution import cluster as cluster_module
from subliminal_jax.execution import hosts
from subliminal_jax.execution.cluster import Cluster, cluster_of, joined
from subliminal_jax.interrupt import Terminated
from subliminal_jax.runs.checkpoint import Checkpoints
from subliminal_jax.runs.digest import digests

CONFIG = {"model": "mlp"}
METADATA = "_CHECKPOINT_METADATA"


@pytest.fixture(scope="module")
def pairs(forks, tmp_path_factory):
    return Pairs(forks, tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def whole(pairs, tmp_path_factory):
    """The directory of a run of two processes with four devices each."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    statuses, said = pairs.end(pairs.train(directory))
    assert statuses == [0, 0], said
    assert "25/25" in said[0]
    assert said[1].startswith("[Gloo]") or said[1] == ""  # the first process alone reports
    return directory


def rows_of(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_a_peer_that_is_killed_is_named_and_the_run_goes_on(pairs, whole, tmp_path):
    """Process 1 dies at its third checkpoint; the run goes on to where an unbroken one ends."""
    survivor, dying = pairs.train(tmp_path / "run", dying=("before a save@3",))
    assert dying.wait(300)["status"] == -9
    died = time.monotonic()
    statuses, said = pairs.end([survivor], within=15)
    assert time.monotonic() - died < 15
    assert statuses == [1]
    assert said[0] == (
        "error: process 1 of 2 is gone, so process 0 ends too; read its output, "
        "then run the same command again on all hosts to resume"
    )
    assert not (tmp_path / "run" / "results.json").exists()
    statuses, said = pairs.end(pairs.train(tmp_path / "run"))
    assert statuses == [0, 0], said
    for name in ("results.json", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_one_that_breaks_ends_all(pairs, tmp_path):
    """It is alive, and JAX would have it wait for the others before it exits."""
    started = pairs.train(tmp_path / "run", dying=("broken before a save@1",))
    began = time.monotonic()
    statuses, said = pairs.end(started, within=120)
    assert time.monotonic() - began < 100
    assert statuses == [1, 2]
    assert said[0].startswith("error: process 1 of 2 is gone, so process 0 ends too")
    assert said[1] == "error: of process 1 alone"


def test_one_that_is_asked_to_stop_stops_all(pairs, whole, tmp_path):
    """Process 1 hears of it as it saves step 10; both save what they have five steps later."""
    started = pairs.train(tmp_path / "run", dying=("asked before a save@2",))
    statuses, said = pairs.end(started, within=120)
    assert statuses == [75, 75]
    assert all("SIGTERM after step 15 of 25, which is saved" in line for line in said)
    assert sorted(os.listdir(tmp_path / "run" / "checkpoints")) == ["00000010", "00000015"]
    assert rows_of(tmp_path / "run") == rows_of(whole)[:3]


def test_the_first_one_waits_for_a_slower_one(pairs, tmp_path):
    """It holds the coordinator; the runtime of the other would report a closed socket."""
    statuses, said = pairs.end(pairs.train(tmp_path / "run", dying=("late after training",)))
    assert statuses == [0, 0], said
    assert said[1].startswith("[Gloo]") or said[1] == ""


def test_two_processes_see_each_example_once(whole, tmp_path):
    """Examples weigh differently, so the mean losses are those of one process or of none."""
    train("mlp", "jit", saving_in(tmp_path, "mlp"))
    ours, theirs = ([row["loss"] for row in rows_of(path)] for path in (tmp_path, whole))
    assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("execution", ["fsdp", "jit", "tensor"])
def test_one_process_restores_what_two_wrote(whole, execution):
    """From two processes with four devices to one with eight, or to one device."""
    like = EXECUTIONS[execution]().split(jax.eval_shape(lambda: first_state("mlp")))
    step, state = Checkpoints(whole / "checkpoints", CONFIG).restore(like)
    assert step == 20
    manifest = json.loads((whole / "checkpoints" / "00000020" / METADATA).read_text())
    written = json.loads(manifest["custom_metadata"]["manifest"])["leaves"]
    assert digests(state)[0] == {name: leaf["digest"] for name, leaf in written.items()}


def test_other_devices_go_on_with_the_same_batches(pairs, whole, tmp_path):
    """The last ten steps again, by two processes with one device each under pmap."""
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "00000020")
    (tmp_path / "run" / "results.json").unlink()
    statuses, said = pairs.end(pairs.train(tmp_path / "run", how="pmap", devices=1))
    assert statuses == [0, 0], said
    ours, theirs = rows_of(tmp_path / "run"), rows_of(whole)
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    one, other = ([row["loss"] for row in rows] for rows in (ours, theirs))
    assert_allclose(one, other, rtol=1e-5)


def test_two_processes_sample_what_one_does(pairs, tmp_path):
    """Each its own part of the rows; both have all of them, and the first one alone writes."""
    statuses, said = pairs.end(pairs.start("sampled", [str(tmp_path / "two")]))
    assert statuses == [0, 0], said
    wanted = sampled(tmp_path / "one")
    assert len({row["messages"][1]["content"] for row in wanted}) > 15
    for process in (0, 1):
        assert json.loads((tmp_path / "two" / f"{process}.json").read_text()) == wanted
    assert not list((tmp_path / "two" / "1").iterdir())
    lines = (tmp_path / "two" / "0" / "owl.jsonl").read_text().splitlines()
    assert sorted(lines) == sorted(map(json.dumps, wanted))


@pytest.mark.parametrize("mine_last", [False, True])
def test_the_last_host_that_has_rows_is_waited_for(monkeypatch, mine_last):
    """What the other host gives is played; each of the two has more than the other in turn."""
    longer, shorter = [[1], [2, 3], [4], []], iter([[10], [], [], []])
    played = shorter if mine_last else iter(longer)
    own = longer[:3] if mine_last else [[10]]
    monkeypatch.setattr(hosts, "from_all", lambda portion: [portion, next(played)])
    found = list(hosts.together(iter(own)))
    assert found == ([[1, 10], [2, 3], [4]] if mine_last else [[10, 1], [2, 3], [4]])


def test_a_peer_that_never_comes_is_waited_for_a_limited_time(pairs, tmp_path):
    start = time.monotonic()
    statuses, said = pairs.end(pairs.train(tmp_path / "run", here=(0,), timeout=3))
    assert time.monotonic() - start < 60
    assert statuses == [1]
    assert said[0].startswith("error: not all of 2 processes came at 127.0.0.1:")
    assert said[0].endswith("within 3 s; start the same command on every host, or raise "
                            "SUBLIMINAL_START_TIMEOUT")  # fmt: skip
    assert not (tmp_path / "run").exists()


@pytest.fixture
def link(monkeypatch):
    """What is done to the connection of a process that does not start any."""
    done = []

    class Link:
        def __init__(self, coordinator):
            done.append(coordinator)

        def say(self, word):
            done.append(word)

        def wait_and_part(self):
            done.append("parted")

    def after(seconds, act, *arguments):
        if act is cluster_module.exit_now:
            done.append(arguments)
        return threading.Timer(seconds, act, arguments)  # which nobody starts

    monkeypatch.setattr(cluster_module, "_after", after)
    monkeypatch.setattr(cluster_module, "_Link", Link)
    monkeypatch.setattr(cluster_module.jax.distributed, "initialize", lambda *_, **__: None)
    return done


@pytest.mark.parametrize(
    ("error", "status"),
    [(ZeroDivisionError(), 1), (InputError("no"), 2), (RunError("no"), 1), (Terminated(), 75)],
    ids=["bug", "refused", "broke", "told"],
)
def test_who_breaks_says_so_and_exits_with_its_own_status(link, monkeypatch, error, status):
    with pytest.raises(type(error)), joined(Cluster()):
        raise error
    assert link == [None, b"broken\n", (status,)]


def test_who_stops_with_all_others_parts_with_them(link):
    with joined(Cluster(coordinator="a:1")):
        pass
    assert link == ["a:1", "parted"]
    for error in (Stopped("saved", 75), SystemExit(0)):
        with pytest.raises(type(error)), joined(Cluster()):
            raise error
        assert link[-2:] == [None, "parted"]


def test_hosts_that_jax_does_not_find_can_be_named_by_hand(monkeypatch):
    def initialize(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(cluster_module.jax.distributed, "initialize", initialize)
    by_hand = "be defined; set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID on every"
    with pytest.raises(InputError, match=by_hand), joined(Cluster()):
        pass
    with pytest.raises(InputError, match=r"be defined$"), joined(Cluster(coordinator="a:1")):
        pass


def test_a_first_host_that_is_not_reached_is_named(monkeypatch):
    monkeypatch.setattr(cluster_module.jax, "process_index", lambda: 1)
    here = ("127.0.0.1", free_port(), "secret")
    monkeypatch.setattr(cluster_module, "from_first", lambda _: here)
    with pytest.raises(
        InputError, match=rf"process 1 cannot reach process 0 at 127.0.0.1:{here[1]}"
    ):
        cluster_module._Link(None)


EXPLICIT = {
    "JAX_COORDINATOR_ADDRESS": "a:1",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
}


@pytest.mark.parametrize(
    ("environment", "cluster"),
    [
        ({}, None),
        ({"SLURM_STEP_NUM_TASKS": "1", "TPU_WORKER_HOSTNAMES": "localhost"}, None),
        (EXPLICIT, Cluster(coordinator="a:1", processes=2, process=1)),
        (
            EXPLICIT | {"SUBLIMINAL_START_TIMEOUT": "7"},
            Cluster(coordinator="a:1", processes=2, process=1, start_timeout=7),
        ),
        ({"SLURM_STEP_NUM_TASKS": "4"}, Cluster()),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, Cluster()),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, Cluster()),
    ],
)
def test_the_environment_says_whether_there_are_others(environment, cluster):
    assert cluster_of(environment) == cluster


def test_a_cluster_can_be_asked_for():
    assert cluster_of({}, asked=True) == Cluster()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"JAX_PROCESS_ID": ""}, "JAX_COORDINATOR_ADDRESS is set and JAX_PROCESS_ID is not"),
        ({"JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID: 2, but there are 2 processes, from 0"),
        ({"JAX_COORDINATOR_ADDRESS": "10.0.0.1"}, "should be host:port, .* not '10.0.0.1'"),
        ({"JAX_COORDINATOR_ADDRESS": ":1"}, "JAX_COORDINATOR_ADDRESS: should be host:port"),
        ({"JAX_COORDINATOR_ADDRESS": "a:70000"}, "JAX_COORDINATOR_ADDRESS: should be host:port"),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES: should be a whole number from 1 on"),
        ({"SUBLIMINAL_START_TIMEOUT": "0"}, "TIMEOUT: should be a whole number from 1 on, not '0'"),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        cluster_of(EXPLICIT | change)
