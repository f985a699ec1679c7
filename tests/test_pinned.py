"""The same config gives the same numbers in every shell."""

import ast
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scripts import ROOT

from subliminal_jax.entry import run_main
from subliminal_jax.keys import member_key, named_key, root_key
from subliminal_jax.process.jax_settings import PINNED, VARIABLES, pin

OTHER = {
    "jax_default_prng_impl": "rbg",
    "jax_random_seed_offset": 3,
    "jax_explicit_x64_dtypes": "allow",
    "jax_numpy_dtype_promotion": "strict",
    "jax_default_matmul_precision": "bfloat16",
    "jax_use_hlo_logistic_lowering": True,
    "jax_optimization_level": "O0",
    "jax_exec_time_optimization_effort": -1.0,
    "jax_memory_fitting_level": "O0",
    "jax_memory_fitting_effort": 1.0,
}
"""A value other than the default; options that are missing here take the opposite of theirs."""


def other_value(name):
    return OTHER[name] if name in OTHER else not PINNED[name]


def here(name):
    """Return the value of an option as plain data; skips the test if JAX lacks the option."""
    if name not in jax.config.values:
        pytest.skip(f"this version of JAX has no {name}")
    value = jax.config.values[name]
    return getattr(value, "name", value)


def computed():
    """Results of draws, reductions, products and a derivative, with their dtypes."""
    x = jax.random.normal(jax.random.fold_in(jax.random.key(3), 1), (4, 5))
    words = jax.random.categorical(jax.random.key(4), x)
    loss = lambda w: jnp.mean(jax.nn.softmax(x @ w) ** 2 * jax.nn.sigmoid(w.sum()))
    grads = jax.jit(jax.grad(loss))(jnp.ones((5, 3)))
    shown = [x, words, grads, jax.nn.softmax(x), jnp.asarray(np.arange(3.0)), x * np.float64(2)]
    return [np.asarray(leaf) for leaf in shown]


@pytest.fixture(scope="module")
def wanted():
    return computed()


@pytest.mark.parametrize("name", PINNED)
def test_pinned_values_are_the_defaults_of_jax(name):
    default = here(name)
    assert (default.lower() if isinstance(default, str) else default) == (
        PINNED[name].lower() if isinstance(PINNED[name], str) else PINNED[name]
    )


@pytest.mark.parametrize("name", PINNED)
def test_no_option_changes_a_result(name, wanted):
    default = here(name)
    try:
        jax.config.update(name, other_value(name))
        assert here(name) != default
        assert pin({}) == []
        assert here(name) == default
        for found, number in zip(computed(), wanted, strict=True):
            assert_array_equal(found, number, strict=True)
    finally:
        jax.config.update(name, PINNED[name])


@pytest.mark.parametrize("name", [*PINNED, *VARIABLES])
def test_a_variable_with_another_value_is_removed_and_named(name):
    value = str(other_value(name)) if name in PINNED else "0"
    environ = {name.upper(): value, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--a=1"}
    assert pin(environ) == [f"{name.upper()}={value}"]
    assert environ == {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--a=1"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("JAX_ENABLE_X64", "0"),
        ("JAX_ENABLE_X64", "False"),
        ("JAX_THREEFRY_PARTITIONABLE", "true"),
        ("JAX_DEFAULT_PRNG_IMPL", "threefry2x32"),
        ("JAX_RANDOM_SEED_OFFSET", "0"),
    ],
)
def test_a_variable_with_the_default_is_not_reported(variable, value):
    assert pin({variable: value}) == []


def test_a_script_reports_the_variables_it_ignores(monkeypatch, capsys):
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    with pytest.raises(SystemExit):
        run_main(lambda: None)
    printed = capsys.readouterr().err
    assert printed == "note: JAX_ENABLE_X64=1 would change results and is ignored\n"


def test_keys_use_one_generator_whatever_the_default_of_jax():
    wanted = [jax.random.key_data(key) for key in (root_key(3), member_key(3, 2))]
    with jax.default_prng_impl("rbg"):
        keys = [root_key(3), member_key(3, 2)]
        assert str(jax.random.key_impl(named_key(keys[0], "a"))) == "threefry2x32"
    for key, words in zip(keys, wanted, strict=True):
        assert_array_equal(jax.random.key_data(key), words)
    assert_array_equal(wanted[0], jax.random.key_data(jax.random.key(3)))


@pytest.mark.parametrize("place", ["subliminal_jax", "experiments"])
def test_all_keys_are_made_in_one_place(place):
    for path in (ROOT / place).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("key", "PRNGKey"):
                made_here = path.stem == "keys" or "random" not in ast.unparse(node.value)
                assert made_here, f"{path}:{node.lineno}: {ast.unparse(node)}"


SCRIPT = """
from subliminal_jax.entry import run_main

def main():
    import jax
    print(jax.random.normal(jax.random.key(3), (2,)).tolist())

run_main(main)
"""


def test_a_script_draws_the_same_numbers_whatever_the_shell_sets():
    asked = {"JAX_ENABLE_X64": "1", "JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_RANDOM_SEED_OFFSET": "4"}
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": str(ROOT), **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    drawn = jax.random.normal(jax.random.key(3), (2,))
    assert ended.stdout == f"{drawn.tolist()}\n"
    assert [line.split(" ")[1].split("=")[0] for line in ended.stderr.splitlines()] == [
        *("JAX_DEFAULT_PRNG_IMPL", "JAX_RANDOM_SEED_OFFSET", "JAX_ENABLE_X64"),
    ]
