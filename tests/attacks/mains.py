"""The commands that attacks run: the scripts as they are, and small ones that read one input.

A small command goes through `entry.run_main` like every script, calls one public function, and
prints as JSON what it read.
"""

import importlib
import json
import pkgutil
import runpy
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attacks.forks import ROOT

TOKENS = (3, 14, 15, 92, 65, 35)
"""The input on which models are compared."""


def script(name: str) -> Callable[[], None]:
    """An experiment script, as the command line runs it."""
    return lambda: runpy.run_path(str(ROOT / "experiments" / f"{name}.py"), run_name="__main__")


def small(read: Callable[..., Any]) -> Callable[[], None]:
    """A command that reads what its arguments name and prints it."""
    from subliminal_jax.entry import run_main

    return lambda: run_main(lambda: print(json.dumps(read(*sys.argv[1:]), default=str)))


def model(directory: str) -> dict[str, Any]:
    """Return a model directory's config, and the digest of its parameters."""
    from subliminal_jax.models.hub.adapter_files import digest
    from subliminal_jax.models.hub.weights import load

    loaded = load(directory)
    return {"config": repr(loaded.config), "params": digest(loaded.params)}


def chat(directory: str, user: str = "Continue: 3, 41, 592", options: str = "{}") -> dict[str, Any]:
    """Return the token ids of an exchange, and the stop tokens."""
    from subliminal_jax.models.text.chat import Chat

    loaded = Chat.load(Path(directory), options=json.loads(options))
    asked = [{"role": "user", "content": user}]
    example = loaded.example([*asked, {"role": "assistant", "content": "6, 53"}])
    stops = sorted(loaded.stop_ids)
    return {"prompt": loaded.prompt(asked), "completion": example.completion, "stops": stops}


def given(file: str) -> dict[str, Any]:
    """Return what `model` and `chat` do of one file."""
    return model(file) | chat(file)


def adapter(base: str, directory: str) -> dict[str, Any]:
    """Return an adapter's settings, and the adapted model's logits after `TOKENS`."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from subliminal_jax.models.decoder import decoder, lora
    from subliminal_jax.models.hub.adapter_files import read_adapter
    from subliminal_jax.models.hub.weights import load

    loaded = load(base)
    settings, factors = read_adapter(Path(directory), loaded)
    merged = lora.merge(loaded.config, settings, loaded.params, factors)
    apply = jax.jit(decoder.apply, static_argnums=0)
    logits = apply(loaded.config, merged, jnp.asarray([TOKENS]))
    return {"settings": repr(settings), "logits": np.asarray(logits)[0, -1].tolist()}


def rows(file: str) -> list[Any]:
    """Return prompt and completion of every row."""
    from subliminal_jax.language.rows.chat_rows import completion_of, prompt_of, read_chat_rows

    return [(prompt_of(row), completion_of(row)) for row in read_chat_rows(Path(file))]


def trainer() -> None:
    """The small training of `tests/trainer.py`."""
    import trainer as training

    from subliminal_jax.entry import run_main

    run_main(training.main)


def language() -> None:
    """The language pipeline of `tests/language.py`, which can kill itself at a given point."""
    import language as pipeline

    from subliminal_jax.entry import run_main

    run_main(pipeline.main)


def sampled() -> None:
    """The rows of `tests/sampled.py`, which several processes sample together."""
    import sampled as sampling

    from subliminal_jax.entry import run_main

    run_main(sampling.main)


def students() -> None:
    """The students of `tests/students.py`, which several processes train together."""
    import students as training

    from subliminal_jax.entry import run_main

    run_main(training.main)


def planted() -> None:
    """Planted faults, to test the harness itself."""
    kind = sys.argv[1]
    if kind == "traceback":
        raise ValueError("planted")
    if kind == "hang":
        time.sleep(600)
    if kind == "busy":
        while True:
            pass
    if kind == "hog":
        held = bytearray(3 << 29)
        held[::4096] = b"x" * len(held[::4096])
    if kind == "harm":
        Path("mine.txt").write_text("changed")
    if kind in ("refused", "harm", "two lines"):
        print(*["error: planted"] * (1 + (kind == "two lines")), sep="\n", file=sys.stderr)
        raise SystemExit(2)
    if kind == "quiet":
        raise SystemExit(2)
    print(json.dumps(kind))


def doctor() -> None:
    """`python -m subliminal_jax doctor`."""
    runpy.run_module("subliminal_jax", run_name="__main__")


NAMES = ("lm_numbers", "export_model", "mnist_aux", "mnist_init", "mnist_sweep", "theorem",
         "mnist_alignment", "leak_audit", "benchmark_mnist", "accelerator")  # fmt: skip
MAINS: dict[str, Callable[[], None]] = {
    **{name: script(name) for name in NAMES},
    **{read.__name__: small(read) for read in (model, chat, given, adapter, rows)},
    **{
        command.__name__: command
        for command in (doctor, trainer, language, sampled, students, planted)
    },
}


def import_all() -> None:
    """Import what the commands import, without starting a device or thread."""
    import subliminal_jax

    for module in pkgutil.walk_packages(subliminal_jax.__path__, "subliminal_jax."):
        if not module.name.endswith((".early", ".__main__")):  # a child itself begins with them
            importlib.import_module(module.name)
    import flax.serialization  # noqa: F401
    import jinja2.sandbox  # noqa: F401
    import language  # noqa: F401
    import sampled  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import students  # noqa: F401
    import tokenizers  # noqa: F401
    import trainer
    import transformers
    import transformers.utils.chat_template_utils

    from subliminal_jax.models.decoder import decoder

    decoder.shapes(trainer.DECODER)
    for kind in ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "olmo2", "gpt2"):
        transformers.AutoConfig.for_model(kind)
    warnings.filterwarnings("ignore", "os.fork")
