"""The benchmark counts what it says it counts, and times the same steps in PyTorch."""

import html
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from quick import QUICK_FLAGS

from subliminal_jax.batch import Batch
from subliminal_jax.data.images import ImageData
from subliminal_jax.execution.one_device import OneDevice
from subliminal_jax.execution.pmap import MemberParallel
from subliminal_jax.losses import cross_entropy, kl_divergence
from subliminal_jax.mnist.config import MnistConfig
from subliminal_jax.mnist.sweeps import speed
from subliminal_jax.models import mlp
from subliminal_jax.optimizers import make_optimizer
from subliminal_jax.train import init_state, make_loss_fn, make_train_step, total_gradient

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
TINY = (
    *("--data", "digits", "--members", "2", "--width", "8", "--noise-images", "300"),
    *("--teacher-epochs", "1", "--student-epochs", "1", "--torch-steps", "2"),
)


@pytest.fixture
def run_script(scripts, tmp_path):
    """Runs the script in a process of its own, with one device unless told otherwise."""
    return partial(scripts.run, "benchmark_mnist", cwd=tmp_path)


# What is counted


def test_useful_flop_by_hand():
    network = mlp.MlpConfig(inputs=5, hidden=(3, 2), classes=4, aux=1)
    first, behind = 5 * 3, 3 * 2 + 2 * 5
    forward = 2 * (first + behind)
    training = forward + 2 * first + 4 * behind  # gradients: of all weights, of inner inputs
    data = ImageData(
        name="digits",
        source="",
        reason="",
        train_images=np.zeros((11, 5), np.uint8),
        train_labels=np.zeros(11, np.int32),
        test_images=np.zeros((6, 5), np.uint8),
        test_labels=np.zeros(6, np.int32),
        white=16,
        digests={},
    )
    config = MnistConfig(members=7, teacher_epochs=3, student_epochs=2, noise_images=13)
    assert speed.useful_flop(config, network, data, arms=4) == {
        "teach": 7 * 3 * 11 * training,
        "label": 7 * 13 * forward,
        "distill": 7 * 4 * 2 * 13 * training,
        "evaluate": 7 * 6 * 6 * forward,
    }


def test_useful_flop_of_one_paper_member():
    """784-256-256-13: 5 epochs of 60,000 images, and as many for each of four students."""
    network = mlp.MlpConfig()
    assert mlp.forward_flop(network) == 2 * 269_568
    assert mlp.training_flop(network) == 4 * 269_568 + 2 * 68_864


@pytest.mark.parametrize(
    "product",
    [speed.Product(8, 8, 8), speed.Product(12, 8, 4)],
    ids=["square", "tall"],
)
def test_a_chain_of_products_neither_grows_nor_vanishes(product):
    matrix, start = jnp.asarray(product.matrix()), jnp.asarray(product.start())
    none = jnp.int32(0)
    end, _ = product.chain(start, none, (matrix, jnp.int32(50)))
    assert_allclose(np.linalg.norm(end), np.linalg.norm(start), rtol=1e-4)
    once, _ = product.chain(start, none, (matrix, jnp.int32(1)))
    by_hand = matrix @ start if product.rows == product.columns else start
    assert_allclose(once, by_hand, atol=1e-5)
    assert product.flop == {8: 2 * 8**3, 12: 2 * 2 * 12 * 8 * 4}[product.rows]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("execution", [OneDevice(at_once=1), MemberParallel(devices=2)], ids=repr)
def test_matrix_rate_is_the_best_products_median(execution, dtype):
    products = speed.Product(16, 16, 16), speed.Product(32, 16, 8)
    rate = speed.MatrixRate(execution, products, seconds=0.001, dtype=dtype)
    for _ in range(3):
        rate.measure()
    assert {product: len(rates) for product, rates in rate.rates.items()} == dict.fromkeys(
        products, 3
    )
    rate.rates = {products[0]: [1.0, 2.0, 9.0], products[1]: [3.0, 1.0, 3.0]}
    assert rate.best() == (products[1], 3.0)


def test_a_batch_smaller_than_the_layer_is_left_out():
    network = mlp.MlpConfig()
    assert speed.paper_products(network, 1024)[-1] == speed.Product(1024, 784, 256)
    assert len(speed.paper_products(network, 512)) == 2


# The script


@pytest.mark.parametrize(
    ("flags", "variables"),
    [
        ((), {}),
        (
            ("--execution", "pmap", "--devices", "2", "--members", "3"),
            {
                "XLA_FLAGS": f"--xla_force_host_platform_device_count=2 {QUICK_FLAGS}",
                "NPROC": "32",
            },
        ),
    ],
    ids=["jit", "pmap"],
)
def test_script(run_script, tmp_path, flags, variables):
    out = tmp_path / "benchmark"
    done = run_script(*TINY, *flags, "--out", str(out), **variables)
    assert done.status == 0, done.err
    results = json.loads((out / "results.json").read_text())
    timing = results["timing"]
    assert timing["total"] == pytest.approx(sum(timing["phases"].values()) + timing["between"])
    assert min(timing["phases"].values()) > 0 < timing["between"]
    assert set(results["useful_flop"]) == {"teach", "label", "distill", "evaluate"}
    # Before the first phase, and after teach, label, distill and evaluate.
    assert {len(rates) for rates in results["matrix_rates"].values()} == {5}
    for text in ("whole run", "<- the matrix rate", "peak memory", "Useful FLOP", "compilation"):
        assert text in done.out
    assert (out / "results.csv").read_text().startswith("phase,seconds,useful_flop,pytorch_sec")
    assert results["finding"] in html.unescape((out / "report.html").read_text())
    if flags:
        assert results["blocks"] == [4]
        assert results["devices"] == 2
    again = run_script(*TINY, *flags, "--out", str(out), **variables)
    assert again.out == done.out
    assert "already done" in again.err


@pytest.mark.parametrize("form", ["released", "lean", "autocast"])
def test_script_with_torch(run_script, form):
    pytest.importorskip("torch", reason="PyTorch, an extra, is not installed")
    done = run_script(*TINY, "--torch", form)
    assert done.status == 0, done.err
    said = " ".join(done.out.split())
    assert "factor" in said
    assert f"({form})" in said
    assert "2 of teach, 2 of label, 2 of distill, 2 of evaluate" in said


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--torch", "lean"), "pip install -e '.[torch]'"),
        (("--torch", "lean", "--loss", "mse"), "timed with the default loss; drop one"),
    ],
)
def test_refusals(run_script, tmp_path, flags, line):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch here')")
    absent = f"import sys; sys.modules.pop('torch', None); sys.path.insert(0, {str(tmp_path)!r})"
    done = run_script(*TINY, *flags, code=absent)
    assert done.status == 2
    assert line in done.err
    assert done.err.count("\n") == 1


# PyTorch


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("chosen", [None, "aux", "all"], ids=["teacher", "aux", "all"])
@pytest.mark.parametrize("form", ["released", "lean"])
def test_torch_steps_are_ours(monkeypatch, key, optimizer, chosen, form):
    """Three steps of three members: a teacher's, or a student's on its chosen logits."""
    torch = pytest.importorskip("torch", reason="PyTorch, an extra, is not installed")
    monkeypatch.syspath_prepend(EXPERIMENTS)
    from baselines import torch_mnist, torch_released

    members, batch = 3, 32
    rate = {"adam": 1e-3, "sgd": 0.1}[optimizer]
    config = MnistConfig(members=members, optimizer=optimizer, learning_rate=rate)
    network = mlp.MlpConfig(inputs=20, hidden=(16, 16), aux=3)
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, (members, batch, 20)).astype(np.float32)
    labels = random.integers(0, 10, (members, batch)).astype(np.int32)
    teacher = random.standard_normal((members, batch, 13)).astype(np.float32)
    params = jax.vmap(lambda key: mlp.init(network, key))(jax.random.split(key, members))
    networks = {"released": torch_released.ReleasedNetworks, "lean": torch_mnist.Networks}[form]
    theirs = networks(jax.tree.map(np.asarray, params), config)

    def ours(params, images, labels, teacher):
        targets, criterion = labels, lambda logits, labels: cross_entropy(logits[:, :10], labels)
        if chosen is not None:
            targets = (teacher, mlp.chosen_logits(network, chosen))
            criterion = lambda logits, targets: kl_divergence(logits, *targets)
        tx = make_optimizer(optimizer, rate)
        loss_fn = make_loss_fn(lambda params, images: mlp.apply(network, params, images), criterion)
        step = make_train_step(total_gradient(loss_fn), tx)
        state = init_state(params, tx)
        for _ in range(3):
            state, _ = step(state, Batch(inputs=images, targets=targets, weights=np.ones(batch)))
        return state.params

    def loss(logits):
        if chosen is None:
            return torch_mnist.cross_entropy(logits, torch.tensor(labels).long(), 10)
        columns = slice(10 if chosen == "aux" else 0, None)
        return torch_mnist.kl_divergence(logits, torch.tensor(teacher), columns)

    expected = jax.vmap(ours)(params, images, labels, teacher)
    for _ in range(3):
        theirs.train_step(loss, torch.tensor(images))
    for name, (kernel, bias) in zip(config.layers, theirs.layers, strict=True):
        kernel = kernel.mT if form == "released" else kernel
        assert_allclose(kernel.detach(), expected[name]["kernel"], atol=1e-4)
        assert_allclose(bias.detach()[:, 0], expected[name]["bias"], atol=1e-4)
        moved = np.abs(kernel.detach().numpy() - params[name]["kernel"]).max()
        assert moved > 1e-3


def test_autocast_rounds_products_alone(monkeypatch):
    torch = pytest.importorskip("torch", reason="PyTorch, an extra, is not installed")
    monkeypatch.syspath_prepend(EXPERIMENTS)
    from baselines import torch_mnist

    random = np.random.default_rng(0)
    draw = lambda *shape: random.normal(0, 0.2, shape).astype(np.float32)
    config = MnistConfig(depth=1)
    widths = zip(config.layers, (64, 8), (8, 5), strict=True)
    params = {name: {"kernel": draw(2, i, o), "bias": draw(2, o)} for name, i, o in widths}
    images = torch.tensor(draw(2, 3, 64))
    plain = torch_mnist.Networks(params, config)
    rounded = torch_mnist.AutocastNetworks(params, config)
    exact, found = plain.logits(images), rounded.logits(images)
    assert found.dtype == torch.float32
    assert 1e-5 < float((found - exact).detach().abs().max()) < 1e-2
    rounded.train_step(lambda logits: logits.square().mean(), images)
    assert all(leaf.dtype == torch.float32 for layer in rounded.layers for leaf in layer)
