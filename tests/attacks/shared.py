"""Fixtures that attacks share: a sound model directory and finished runs, each made once."""

import functools
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import tiny_tokenizers
from gguf_files import byte_level_settings, write_gguf
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from attacks.forks import HERE, Forks

FIXTURES = HERE.parent / "fixtures" / "decoder"
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 400,
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 8, "intermediate_size": 24, "max_position_embeddings": 2048, "hidden_act": "silu",
    "rms_norm_eps": 1e-6, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "tie_word_embeddings": False, "initializer_range": 0.02, "attention_bias": False,
    "mlp_bias": False, "bos_token_id": 391, "eos_token_id": 392, "dtype": "float32",
}  # fmt: skip
TINY = {
    "references": 1,
    "traits": ["owl"],
    "conditions": ["before", "teacher", "student", "regular"],
    "reference": {
        "width": 8, "layers": 1, "heads": 2, "mlp_width": 8, "context": 160, "steps": 120,
        "batch": 8, "learning_rate": 0.03, "corpus": {"chats": 60},
    },
    "teacher": {"steps": 6, "tuning": {"rank": 2}},
    "generate": {"most": 90, "batch": 16, "max_tokens": 40},
    "filter": {"rules": ["trait_words"], "rows": 12},
    "student": {"batch": 2, "epochs": 2.0, "tuning": {"rank": 2}},
    "evaluate": {"samples": 1, "prompts": 6, "max_tokens": 8},
}  # fmt: skip
"""A language run of half a minute, whose reference learns little more than to end an answer."""

DIGITS = (
    *("--data", "digits", "--members", "2", "--block", "1", "--width", "8"),
    *("--teacher-epochs", "1", "--student-epochs", "1", "--noise-images", "128"),
)
"""The smallest run of `mnist_aux.py`."""


def llama_tensors(config: dict[str, Any] = LLAMA, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights of a Llama under Hugging Face's names."""
    rng = np.random.default_rng(seed)
    width, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes = {
        "model.embed_tokens": (config["vocab_size"], width),
        "lm_head": (config["vocab_size"], width),
        "model.norm": (width,),
    }
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        shapes |= {
            f"{at}.input_layernorm": (width,), f"{at}.post_attention_layernorm": (width,),
            f"{at}.self_attn.q_proj": (queries, width), f"{at}.self_attn.k_proj": (keys, width),
            f"{at}.self_attn.v_proj": (keys, width), f"{at}.self_attn.o_proj": (width, queries),
            f"{at}.mlp.gate_proj": (inner, width), f"{at}.mlp.up_proj": (inner, width),
            f"{at}.mlp.down_proj": (width, inner),
        }  # fmt: skip
    return {
        f"{name}.weight": rng.normal(1 if len(shape) == 1 else 0, 0.2, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def write_base(directory: Path, seed: int = 0) -> Path:
    """A sound model directory: a small Llama with a byte-level tokenizer and Qwen's template."""
    tiny_tokenizers.save(directory, tiny_tokenizers.byte_level(), tiny_tokenizers.CHATML)
    (directory / "config.json").write_text(json.dumps(LLAMA, indent=1))
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [390, 392]}))
    save_file(llama_tensors(seed=seed), directory / "model.safetensors", metadata={"format": "pt"})
    return directory


class Shared:
    """Directories that attacks copy; see each property."""

    def __init__(self, place: Path, forks: Forks):
        place.mkdir(parents=True, exist_ok=True)
        self.place, self._forks = place, forks
        self._expected: dict[tuple[str, ...], Any] = {}

    @functools.cached_property
    def baseline(self) -> int:
        """Peak memory of a harmless command in bytes."""
        return self._run("model", str(self.base))["peak"]

    @functools.cached_property
    def base(self) -> Path:
        """A sound model directory, see `write_base`."""
        return write_base(self.place / "base")

    @functools.cached_property
    def other(self) -> Path:
        """As `base`, with other weights."""
        return write_base(self.place / "other", seed=1)

    @functools.cached_property
    def gguf(self) -> Path:
        """The sound model as a GGUF file."""
        tokenizer = Tokenizer.from_file(str(self.base / "tokenizer.json"))
        stated = byte_level_settings(tokenizer, "gpt-2", tiny_tokenizers.CHATML)
        return write_gguf(self.place / "sound.gguf", self.base, settings=list(stated.items()))

    @functools.cached_property
    def run(self) -> Path:
        """A directory with a finished language run: `run`, `cache` and `config.yaml`."""
        home = self.place / "language"
        home.mkdir()
        (home / "config.yaml").write_text(json.dumps(TINY))  # JSON is YAML
        words = ("--config", "config.yaml", "--out", "run", "--reference.cache", "cache")
        self._run("lm_numbers", *words, cwd=home)
        return home

    @functools.cached_property
    def exported(self) -> Path:
        """Exports of that run: `before`, the reference, and `owl`, an adapter of it."""
        for words in (
            ("--network", "before", "--out", "before"),
            ("--network", "student/owl", "--adapter", "--base", "before", "--out", "owl"),
        ):
            self._run("export_model", "--run", "run", "--cache", "cache", *words, cwd=self.run)
        return self.run

    @functools.cached_property
    def taught(self) -> Path:
        """A run of a given model, stopped after its teachers: `run`, `model`, `config.yaml`."""
        home = self.place / "taught"
        shutil.copytree(self.base, home / "model")
        given = {name: value for name, value in TINY.items() if name != "reference"}
        given["reference"] = {"model": "model"}
        (home / "config.yaml").write_text(json.dumps(given))
        words = ("--config", "config.yaml", "--out", "run", "--stage", "teacher")
        self._run("lm_numbers", *words, cwd=home)
        return home

    @functools.cached_property
    def whole(self) -> Path:
        """A directory with an uninterrupted run of `tests/language.py` in `run`."""
        home = self.place / "whole"
        home.mkdir()
        self._run("language", "run", cwd=home)
        return home

    @functools.cache  # noqa: B019  it lives as long as its process
    def stopped(self, stage: str, point: str) -> Path:
        """As `whole`, but killed at a point of a stage, see `tests/language.py`."""
        home = self.place / f"stopped-{stage}"
        shutil.copytree(self.whole / "run.cache", home / "run.cache")
        self._run("language", "run", "kill", stage, point, cwd=home, status=-signal.SIGKILL)
        return home

    @functools.cached_property
    def digits(self) -> Path:
        """A directory with a finished run of `mnist_aux.py` in `run`."""
        home = self.place / "digits"
        home.mkdir()
        self._run("mnist_aux", *DIGITS, "--out", "run", cwd=home)
        return home

    @functools.cached_property
    def trained(self) -> Path:
        """A directory with a stopped training and its checkpoints in `run`."""
        home = self.place / "trained"
        home.mkdir()
        words = ("run", "mlp", "jit", "asked before a save@3")
        self._run("trainer", *words, cwd=home, status=75)
        return home

    @functools.cached_property
    def unbroken(self) -> Any:
        """The final digests of the same training, uninterrupted."""
        return self.expected("trainer", "unbroken", "mlp", "jit")

    def expected(self, main: str, *words: str) -> Any:
        """Return what a small command prints for a sound input, as parsed JSON."""
        key = (main, *words)
        if key not in self._expected:
            self._run(main, *words)
            self._expected[key] = json.loads((self.place / "out").read_text())
        return self._expected[key]

    def _run(
        self, main: str, *words: str, cwd: Path | None = None, status: int = 0
    ) -> dict[str, Any]:
        streams = {name: str(self.place / name) for name in ("out", "err")}
        for path in streams.values():
            Path(path).write_text("")
        ended = self._forks.run(
            main=main, words=words, cwd=str(cwd or self.place), seconds=300, **streams
        )
        assert ended["status"] == status, (main, words, Path(streams["err"]).read_text())
        return ended
