"""Weights of a model: indices and shards, prefixes, heads, numbers, damaged files."""

import json
import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file

from attacks.attack import Attack
from attacks.configs import LM
from attacks.edits import (
    KINDS,
    base,
    both,
    edit,
    edited,
    fixture,
    other_kind,
    put,
    replaced,
    retensored,
    same_as_base,
)
from attacks.shared import Shared

attack = partial(Attack, "weights", main="model", words=("{here}/model",))
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
QUERY = "model.layers.0.self_attn.q_proj.weight"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 9\n"


def sharded(here: Path, shared: Shared) -> Path:
    """The sound directory in two shards with an index."""
    model = base(here, shared)
    tensors = load_file(model / SINGLE)
    names = sorted(tensors)
    halves = dict(zip(SHARDS, (names[: len(names) // 2], names[len(names) // 2 :]), strict=True))
    for file, half in halves.items():
        save_file({name: tensors[name] for name in half}, model / file, metadata={"format": "pt"})
    where = {name: file for file, half in halves.items() for name in half}
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (model / INDEX).write_text(json.dumps(index))
    (model / SINGLE).unlink()
    return model


def in_shards(change: Callable[[Path], object]) -> Callable[[Path, Shared], object]:
    """The directory in shards, changed."""
    return lambda here, shared: change(sharded(here, shared))


def with_map(change: Callable[[dict[str, str]], object]) -> Callable[[Path, Shared], object]:
    """The directory in shards with another `weight_map`."""

    def in_place(model: Path) -> None:
        index = json.loads((model / INDEX).read_text())
        changed = change(index["weight_map"])
        index["weight_map"] = index["weight_map"] if changed is None else changed
        (model / INDEX).write_text(json.dumps(index))

    return in_shards(in_place)


def all_to(place: str) -> Callable[[Path, Shared], object]:
    """An index that puts every tensor into one file."""
    return with_map(lambda where: dict.fromkeys(where, place))


def stale_shards_beside(here: Path, shared: Shared) -> None:
    """A single file, and an index of older shards: transformers takes the single file."""
    shutil.copy(shared.base / SINGLE, (model := sharded(here, shared)) / SINGLE)
    for file in SHARDS:
        tensors = {name: tensor + 1 for name, tensor in load_file(model / file).items()}
        save_file(tensors, model / file, metadata={"format": "pt"})


def renamed(rename: Callable[[str], str]) -> Callable[[Path, Shared], object]:
    """Renamed tensors."""
    return retensored(lambda tensors: {rename(name): value for name, value in tensors.items()})


def with_number(value: float, at: str = QUERY) -> Callable[[Path, Shared], object]:
    """Change one number of one tensor."""

    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[at].flat[3] = value

    return retensored(change)


def as_type(dtype: object) -> Callable[[Path, Shared], object]:
    """All tensors in another dtype."""
    return retensored(lambda tensors: {name: t.astype(dtype) for name, t in tensors.items()})


def cut(size: int | float) -> Callable[[Path, Shared], object]:
    """The file truncated to `size` bytes, or to that fraction."""

    def set_up(here: Path, shared: Shared) -> None:
        path = base(here, shared) / SINGLE
        data = path.read_bytes()
        path.write_bytes(data[: int(size * len(data)) if isinstance(size, float) else size])

    return set_up


def header(change: Callable[[dict], object]) -> Callable[[Path, Shared], object]:
    """Another header, the same data."""

    def set_up(here: Path, shared: Shared) -> None:
        path = base(here, shared) / SINGLE
        data = path.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        parsed = json.loads(data[8 : 8 + size])
        change(parsed)
        text = json.dumps(parsed).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    return set_up


def tied(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path, Shared], object]:
    """A config with tied embeddings, and a changed head."""
    return both(
        retensored(lambda tensors: (tensors.update({HEAD: tensors[EMBEDDING].copy()}),
                                    change(tensors), tensors)[-1]),
        lambda here, shared: edit(here / "model/config.json", {"tie_word_embeddings": True}),
    )  # fmt: skip


def without(*names: str) -> Callable[[Path, Shared], object]:
    """Without some tensors."""
    return retensored(lambda t: {name: value for name, value in t.items() if name not in names})


def in_place_of(file: str, kind: str) -> Callable[[Path, Shared], object]:
    """Another kind of entry in place of the file."""
    return lambda here, shared: other_kind(base(here, shared) / file, kind)


def adapter_beside(here: Path, shared: Shared) -> None:
    """PEFT's files next to a complete model; transformers would apply them."""
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (base(here, shared) / "adapter_config.json").write_text(json.dumps(config))


def snapshot(here: Path, shared: Shared) -> None:
    """The hub's cache: a commit's files are links to blobs."""
    home = here / "models--somebody--model"
    blobs, commit = home / "blobs", home / "snapshots" / ("0" * 40)
    blobs.mkdir(parents=True)
    commit.mkdir(parents=True)
    for number, path in enumerate(sorted(shared.base.iterdir())):
        shutil.copy(path, blobs / f"{number:064x}")
        (commit / path.name).symlink_to(f"../../blobs/{number:064x}")
    (here / "model").symlink_to(commit)


def many_tensors() -> bytes:
    """A file of very many empty tensors."""
    nothing = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps({f"w{i}": nothing for i in range(400_000)}).encode()
    return struct.pack("<Q", len(text)) + text


PREFIXES = {
    "none": lambda name: name.removeprefix("model."),
    "compiled": lambda name: f"_orig_mod.{name}",
    "data-parallel": lambda name: f"module.{name}",
    "compiled-data-parallel": lambda name: f"_orig_mod.module.{name}",
    "fsdp": lambda name: f"_fsdp_wrapped_module.{name}",
    "twice": lambda name: f"model.{name}",
}
PLACES = {
    "up": "../secret.safetensors", "absolute": "/etc/passwd", "roundabout": "a/../../x",
    "backslash": "..\\x", "empty": "", "dot": ".", "nul": "a\0b", "long": "x" * 5000,
    "number": 7, "null": None, "list": ["model"], "other-format": "pytorch_model.bin",
    "absent": "model-00009-of-00009.safetensors", "device": "/dev/zero", "itself": INDEX,
}  # fmt: skip
HEADERS = {
    "overlapping": lambda h: h[QUERY].update(data_offsets=h[HEAD]["data_offsets"]),
    "backwards": lambda h: h[QUERY].update(data_offsets=h[QUERY]["data_offsets"][::-1]),
    "negative": lambda h: h[QUERY].update(data_offsets=[-8, 1016]),
    "huge-shape": lambda h: h[QUERY].update(shape=[2**40, 2**40]),
    "unknown-type": lambda h: h[QUERY].update(dtype="Q4"),
    "text-shape": lambda h: h[QUERY].update(shape="16"),
    "no-shape": lambda h: h[QUERY].pop("shape"),
    "transposed": lambda h: h["model.layers.0.mlp.up_proj.weight"].update(shape=[16, 24]),
}  # fmt: skip

ATTACKS = [
    attack("sound-shards", set_up=sharded, wanted="right", check=same_as_base("model")),
    attack("single-file-beside-old-index", set_up=stale_shards_beside, wanted="right",
           check=same_as_base("model"), quick=True),
    attack("single-file-beside-index-without-shards", wanted="right", check=same_as_base("model"),
           set_up=both(stale_shards_beside, lambda here, shared: [
               (here / "model" / file).unlink() for file in SHARDS])),
    attack("index-without-shards",
           set_up=in_shards(lambda model: [(model / file).unlink() for file in SHARDS])),
    attack("one-shard-missing", set_up=in_shards(lambda model: (model / SHARDS[1]).unlink())),
    attack("shard-is-pointer", set_up=in_shards(lambda m: put(m / SHARDS[0], POINTER)),
           quick=True),
    attack("index-is-pointer", set_up=in_shards(lambda m: put(m / INDEX, POINTER))),
    attack("single-is-pointer", set_up=replaced(SINGLE, POINTER)),
    attack("shards-without-index", set_up=in_shards(lambda m: (m / INDEX).unlink()),
           wanted="either", check=same_as_base("model")),
    attack("index-without-map", set_up=in_shards(lambda m: put(m / INDEX, b"{}"))),
    attack("index-map-list", set_up=with_map(lambda where: [[1]])),
    attack("index-map-empty", set_up=with_map(lambda where: {})),
    attack("index-lacks-one", set_up=with_map(lambda where: where.pop(QUERY) and None),
           wanted="either", check=same_as_base("model")),
    attack("index-one-in-wrong-shard", set_up=with_map(lambda where: where.update(
        {QUERY: SHARDS[0] if where[QUERY] == SHARDS[1] else SHARDS[1]}))),
    attack("index-names-one-more", set_up=with_map(lambda where: where.update(
        {"model.layers.7.mlp.up_proj.weight": SHARDS[0]}))),
    attack("index-million-shards", set_up=with_map(
        lambda where: {f"w{i}": f"model-{i}.safetensors" for i in range(300_000)})),
    *(attack(f"index-place-{name}", set_up=all_to(place), quick=name == "up")
      for name, place in PLACES.items()),
    *(attack(f"prefix-{name}", set_up=renamed(rename), check=same_as_base("model"),
             wanted="either" if name in ("twice", "fsdp") else "right", quick=name == "compiled")
      for name, rename in PREFIXES.items()),
    attack("prefix-of-one-alone", set_up=renamed(
        lambda name: f"_orig_mod.{name}" if name == QUERY else name), wanted="either",
        check=same_as_base("model")),
    attack("prefix-and-plain", set_up=retensored(
        lambda t: t | {f"_orig_mod.{QUERY}": t[QUERY] + 1})),
    *(attack(f"{name}-number", set_up=with_number(value), quick=name == "nan")
      for name, value in (("nan", np.nan), ("infinite", np.inf), ("minus-infinite", -np.inf))),
    attack("nan-in-head", set_up=with_number(np.nan, HEAD)),
    attack("nan-in-norm", set_up=with_number(np.nan, "model.norm.weight")),
    attack("nan-in-half", set_up=both(with_number(np.nan), retensored(
        lambda t: {name: value.astype(np.float16) for name, value in t.items()}))),
    attack("infinite-when-narrowed", set_up=both(as_type(np.float64), with_number(1e300))),
    *(attack(f"type-{np.dtype(dtype).name}", set_up=as_type(dtype))
      for dtype in (np.int8, np.int32, np.uint8, np.bool_, ml_dtypes.float8_e4m3fn)),
    *(attack(f"type-{np.dtype(dtype).name}", set_up=as_type(dtype), wanted="right")
      for dtype in (np.float16, np.float64, ml_dtypes.bfloat16)),
    attack("tied-with-equal-head", set_up=tied(lambda t: None), wanted="right"),
    attack("tied-with-other-head", set_up=tied(lambda t: t[HEAD].__iadd__(0.5))),
    attack("tied-with-one-other-number", set_up=tied(
        lambda t: t[HEAD].__setitem__((-1, -1), 9.0))),
    attack("tied-with-smaller-head", set_up=tied(lambda t: t.update({HEAD: t[HEAD][:-1]}))),
    attack("tied-with-nan-in-both", set_up=tied(
        lambda t: (t[HEAD].fill(np.nan), t[EMBEDDING].fill(np.nan)))),
    attack("untied-without-head", set_up=without(HEAD)),
    attack("without-embedding", set_up=without(EMBEDDING)),
    attack("without-a-layers-tensor", set_up=without(QUERY)),
    attack("without-all", set_up=retensored(lambda t: {"x": np.zeros(1, np.float32)})),
    attack("one-more", set_up=retensored(lambda t: t | {"extra": np.zeros(3, np.float32)})),
    attack("bias-that-no-config-has", set_up=retensored(
        lambda t: t | {QUERY.replace("weight", "bias"): np.ones(16, np.float32)})),
    attack("lora-left-in", set_up=retensored(
        lambda t: t | {QUERY.replace("weight", "lora_A.weight"): np.ones((2, 16), np.float32)})),
    attack("quantised-beside", set_up=retensored(
        lambda t: t | {QUERY + "_scale_inv": np.ones((1, 1), np.float32)})),
    attack("buffers", wanted="right", check=same_as_base("model"), set_up=retensored(
        lambda t: t | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)})),
    *(attack(f"cut-{size}", set_up=cut(size)) for size in (0, 4, 8, 100, 0.5, 0.999)),
    attack("one-byte-more", set_up=lambda here, shared: put(
        (path := base(here, shared) / SINGLE), path.read_bytes() + b"x")),
    attack("header-length-huge", set_up=replaced(SINGLE, b"\xff" * 8 + b"{}")),
    attack("header-length-gigabyte", set_up=replaced(SINGLE, struct.pack("<Q", 10**9) + b"{}")),
    attack("header-of-many", set_up=replaced(SINGLE, many_tensors)),
    *(attack(f"header-{name}", set_up=header(change)) for name, change in HEADERS.items()),
    attack("pickle-under-the-name", set_up=replaced(SINGLE, b"\x80\x04cos\nsystem\n.")),
    attack("pickle-alone", set_up=both(replaced(SINGLE, None), lambda here, shared: put(
        here / "model/pytorch_model.bin", b"\x80\x04cos\nsystem\n."))),
    attack("missing", set_up=replaced(SINGLE, None)),
    *(attack(f"file-{kind.replace(' ', '-')}", set_up=in_place_of(SINGLE, kind),
             quick=kind == "fifo") for kind in (*KINDS, "empty")),
    *(attack(f"shard-{kind.replace(' ', '-')}", set_up=in_shards(
        lambda m, kind=kind: other_kind(m / SHARDS[1], kind))) for kind in (*KINDS, "empty")),
    *(attack(f"index-{kind.replace(' ', '-')}", set_up=in_shards(
        lambda m, kind=kind: other_kind(m / INDEX, kind))) for kind in (*KINDS, "empty")),
    attack("adapter-beside", set_up=adapter_beside, quick=True),
    attack("directory-missing", words=("{here}/nowhere",)),
    attack("directory-is-file", set_up=lambda here, shared: put(here / "model", b"x")),
    attack("name-empty", words=("",)),
    attack("name-nul-like", words=("a\\0b/../c",)),
    attack("name-long", words=("m" * 5000,)),
    attack("name-up", words=("../../etc",)),
    attack("hub-snapshot", set_up=snapshot, wanted="right", check=same_as_base("model"),
           quick=True),
    attack("hub-snapshot-chat", set_up=snapshot, main="chat", wanted="right",
           check=same_as_base("chat"), quick=True),
    attack("hub-snapshot-whole-command", set_up=snapshot, main="lm_numbers", words=LM,
           wanted="right"),
    attack("hub-offline", words=("somebody/some-model",)),
    attack("hub-bad-revision", words=("somebody/some-model@../x",)),
    attack("gpt2-transposed", set_up=both(fixture("gpt2"), lambda here, shared: save_file(
        {name: np.ascontiguousarray(t.T) if "c_fc" in name and t.ndim == 2 else t
         for name, t in load_file(here / "model" / SINGLE).items()},
        here / "model" / SINGLE))),
    attack("whole-command-nan", set_up=with_number(np.nan), main="lm_numbers", words=LM),
    attack("whole-command-pointer", set_up=replaced(SINGLE, POINTER), main="lm_numbers", words=LM),
    attack("whole-command-embedding-smaller-than-tokenizer", main="lm_numbers", words=LM,
           set_up=both(retensored(lambda t: t | {name: t[name][:390] for name in
                                                 (HEAD, EMBEDDING)}),
                       lambda here, shared: edit(here / "model/config.json",
                                                 {"vocab_size": 390}))),
    attack("bfloat16-asked", set_up=as_type(np.float16), main="lm_numbers", wanted="right",
           words=(*LM, "--reference.dtype", "bfloat16")),
    attack("config-of-other-model", set_up=both(fixture("llama"), lambda here, shared: shutil.copy(
        shared.base / "config.json", here / "model/config.json"))),
    attack("width-edited-too", set_up=edited("config.json", intermediate_size=48)),
]  # fmt: skip
