"""Two real processes run the language pipeline as one, with all that they have of devices."""

import json
import time

import numpy as np
import pytest
from language import tiny
from numpy.testing import assert_allclose
from scripts import ROOT
from students import make_reference, trained
from test_cluster import Processes

from subliminal_jax.config import config_dict
from subliminal_jax.pipeline import student
from subliminal_jax.pipeline.trees import load_tree


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    return Processes(tmp_path_factory.mktemp("processes"), "--xla_backend_optimization_level=0")


def leaves(tree):
    return np.concatenate([np.ravel(leaf) for leaf in _flat(tree)])


def _flat(tree):
    for key in sorted(tree):
        yield from _flat(tree[key]) if isinstance(tree[key], dict) else [tree[key]]


def test_students_of_two_processes_are_gone_on_with_by_one(processes, tmp_path, monkeypatch):
    """Process 1 dies at its second checkpoint; the last steps are done on one device."""
    survivor, dying = processes.start_script(
        "students", [str(tmp_path / "two")], devices=2, dying=("before a save@2",)
    )
    monkeypatch.setattr(student, "CHUNK", 2)
    reference = make_reference(tmp_path / "tokenizer")
    wanted = trained(reference, tmp_path / "one", {})
    assert dying.wait(timeout=300) == -9
    died = time.monotonic()
    statuses, said = processes.end([survivor], within=15)
    assert time.monotonic() - died < 15
    assert statuses == [1]
    assert said[0].startswith("error: process 1 of 2 is gone, so this one, process 0, ends too")
    assert [path.name for path in (tmp_path / "two" / "saved").iterdir()] == ["00000002"]
    monkeypatch.setattr(student, "orders", None) if False else None
    found = trained(reference, tmp_path / "two", {})
    assert_allclose(leaves(found), leaves(wanted), rtol=0, atol=1e-5)
    assert load_tree is not None
