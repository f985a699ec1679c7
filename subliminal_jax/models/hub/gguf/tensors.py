"""The tensors of a GGUF model: names, storage types, and values in the order of Hugging Face.

Rows are dequantised some at a time, straight into the dtype that is asked for. llama.cpp stores a
Llama's query and key rows in an order of its own, and adds 1 to the scales of Gemma's norms; both
are undone here.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from subliminal_jax.errors import InputError
from subliminal_jax.models.hub.families import Family
from subliminal_jax.models.hub.gguf.header import Header, TensorEntry, check_places, read_header
from subliminal_jax.models.hub.gguf.metadata import ROPE_FACTORS, Settings, stated_config
from subliminal_jax.models.hub.model_files import ModelFiles, StoredTensor, shown

_BLOCK = 1 << 20  # numbers that are dequantised at a time
_MODULES = {
    "embedding": "token_embd",
    "positions": "position_embd",
    "unembedding": "output",
    "norm": "output_norm",
    "layers/attention_norm": "blk.{layer}.attn_norm",
    "layers/attention_after": "blk.{layer}.post_attention_norm",
    "layers/attention/query": "blk.{layer}.attn_q",
    "layers/attention/key": "blk.{layer}.attn_k",
    "layers/attention/value": "blk.{layer}.attn_v",
    "layers/attention/output": "blk.{layer}.attn_output",
    "layers/attention/query_norm": "blk.{layer}.attn_q_norm",
    "layers/attention/key_norm": "blk.{layer}.attn_k_norm",
    "layers/mlp_norm": "blk.{layer}.ffn_norm",
    "layers/mlp_after": "blk.{layer}.post_ffw_norm",
    "layers/mlp/gate": "blk.{layer}.ffn_gate",
    "layers/mlp/up": "blk.{layer}.ffn_up",
    "layers/mlp/down": "blk.{layer}.ffn_down",
}
"""Our module's path -> GGUF's name, in every family."""


def in_gguf(family: Family) -> Family:
    """A family as GGUF names and stores its tensors."""
    modules = {path: _MODULES[path] for path in family.modules}
    if family.fused:
        modules |= dict.fromkeys(family.fused, "blk.{layer}.attn_qkv")
    return replace(family, modules=modules, transposed=True, prefix="", ignored=(ROPE_FACTORS,))


@dataclass(frozen=True)
class GgufTensor(StoredTensor):
    """A tensor in a GGUF file, whose values are not read yet; see `StoredTensor`.

    Attributes:
        entry: where it is.
        heads: of which it holds the rows in llama.cpp's order; 0 if its rows are as usual.
        shift: added to every number.
    """

    entry: TensorEntry
    heads: int = 0
    shift: float = 0.0

    def read(self, index: tuple[slice, ...], dtype: str) -> np.ndarray:
        """The part that `index`, a slice of every axis, selects."""
        wanted = np.arange(self.shape[0])[index[0]]
        rows = _stored_rows(wanted, self.shape[0], self.heads)
        width = math.prod(self.shape[1:])
        block = max(1, _BLOCK // width)
        lengths = [len(range(n)[part]) for n, part in zip(self.shape[1:], index[1:], strict=True)]
        piece = np.empty((len(rows), *lengths), dtype)
        # Rows of a head are permuted within it, so that a block of rows lies close together.
        for start in range(0, len(rows), block):
            some = rows[start : start + block]
            first, last = (int(some.min()), int(some.max()) + 1) if len(some) else (0, 0)
            numbers = self._rows(first, last).reshape(last - first, *self.shape[1:])
            piece[start : start + block] = numbers[(some - first, *index[1:])]
        return piece

    def _rows(self, first: int, last: int) -> np.ndarray:
        """Rows `first` to `last`, in float32."""
        if len(self.shape) == 1:  # blocks run along its only axis
            return self._numbers(0, self.shape[0])[first:last]
        width = math.prod(self.shape[1:])
        return self._numbers(first * width, (last - first) * width)

    def _numbers(self, start: int, count: int) -> np.ndarray:
        """`count` numbers in the order they are stored, in float32."""
        import gguf

        data = self._bytes(_bytes_of(start, self.entry.kind), _bytes_of(count, self.entry.kind))
        with np.errstate(all="ignore"):  # a damaged scale may be NaN, which the reader refuses
            numbers = gguf.dequantize(data, gguf.GGMLQuantizationType(self.entry.kind))
        return numbers + np.float32(self.shift) if self.shift else numbers

    def _bytes(self, start: int, count: int) -> np.ndarray:
        with self.file.open("rb") as file:
            file.seek(self.entry.offset + start)
            data = np.fromfile(file, np.uint8, count)
        if len(data) != count:
            raise InputError(f"{self.file}: changed while it was read; run the command again")
        return data


def _stored_rows(wanted: np.ndarray, rows: int, heads: int) -> np.ndarray:
    """Where rows are stored. llama.cpp puts the two halves of a head's dimensions in turn."""
    if not heads:
        return wanted
    head, place = np.divmod(wanted, rows // heads)
    half, pair = np.divmod(place, rows // heads // 2)
    return head * (rows // heads) + 2 * pair + half


class GgufModel:
    """All parts of a GGUF model, their headers read and checked.

    Args:
        files: of the model.

    Attributes:
        headers: of each file, in order.
        stated: its `config.json`.
        tensors: by GGUF's name.

    Raises:
        InputError: a header is refused, a storage type is not supported, the files are not the
            parts of one model, or the package gguf is not installed.
    """

    def __init__(self, files: ModelFiles):
        check_installed(files)
        self.headers = [read_header(path) for path in files.gguf]
        _check_parts(self.headers)
        for header in self.headers:
            check_places(header, lambda entry, header=header: _size(header, entry))
        entries = dict(_entries(self.headers))
        settings = Settings(self.headers[0])
        factors = None
        if ROPE_FACTORS in entries:
            factors = self._tensor(*entries[ROPE_FACTORS], settings).read((slice(None),), "float32")
        self.stated = stated_config(self.headers[0], entries, factors)
        self.tensors: Mapping[str, GgufTensor] = {
            name: self._tensor(header, entry, settings) for name, (header, entry) in entries.items()
        }

    def _tensor(self, header: Header, entry: TensorEntry, settings: Settings) -> GgufTensor:
        heads, shift = 0, 0.0
        if settings.architecture == "llama" and ".attn_q." in entry.name:
            heads = settings.count("attention.head_count")
        if settings.architecture == "llama" and ".attn_k." in entry.name:
            heads = settings.count(
                "attention.head_count_kv", settings.count("attention.head_count")
            )
        if heads and (heads < 0 or entry.shape[0] % (2 * heads)):
            raise InputError(
                f"{header.path}: {entry.name} has {entry.shape[0]} rows, not an even number for "
                f"each of {heads} heads"
            )
        if settings.architecture.startswith("gemma") and entry.name.endswith("norm.weight"):
            shift = -1.0
        return GgufTensor(header.path, entry.name, entry.shape, "F32", entry, heads, shift)


def _entries(headers: list[Header]) -> Iterator[tuple[str, tuple[Header, TensorEntry]]]:
    seen: set[str] = set()
    for header in headers:
        for name, entry in header.tensors.items():
            if name in seen:
                raise InputError(f"{header.path}: {shown(name)} is in another part too")
            seen.add(name)
            yield name, (header, entry)


def _check_parts(headers: list[Header]) -> None:
    """Checks that the files are all parts of one model, in order."""
    for part, header in enumerate(headers):
        count, own = header.settings.get("split.count", 1), header.settings.get("split.no", 0)
        if (count or 1, own) != (len(headers), part):
            stated = shown(f"{own} of {count}")
            raise InputError(
                f"{header.path}: states that it is part {stated}, counted from 0, not "
                f"{part} of {len(headers)}; keep all parts side by side under their names, "
                "NAME-00001-of-00002.gguf"
            )
    total = headers[0].settings.get("split.tensors.count")
    there = sum(len(header.tensors) for header in headers)
    if len(headers) > 1 and total not in (None, there):
        stated = shown(str(total))
        raise InputError(f"{headers[0].path}: counts {stated} tensors in all parts, not {there}")


def check_installed(files: ModelFiles) -> None:
    """Checks that the package gguf, an extra, is installed.

    Raises:
        InputError: it is not; gives the command to type.
    """
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{files.path}: reading a GGUF file needs the package gguf; type: pip install gguf"
        ) from error


def _size(header: Header, entry: TensorEntry) -> int:
    """Bytes that a tensor takes.

    Raises:
        InputError: its type is not supported, or its rows are no whole blocks of it.
    """
    import gguf

    if entry.kind not in _supported():
        known = {kind.value: kind.name for kind in gguf.GGMLQuantizationType}
        raise InputError(
            f"{header.path}: {entry.name} is of the storage type "
            f"{known.get(entry.kind, entry.kind)}, which is not supported; supported are "
            f"{', '.join(known[kind] for kind in sorted(_supported()))}"
        )
    block, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(entry.kind)]
    if entry.shape[-1] % block:
        raise InputError(
            f"{header.path}: {entry.name} has rows of {entry.shape[-1]}, not of whole blocks of "
            f"{block}"
        )
    return _bytes_of(math.prod(entry.shape), entry.kind)


def _bytes_of(count: int, kind: int) -> int:
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    return count // block * size


@cache
def _supported() -> frozenset[int]:
    """The storage types that the package dequantises."""
    import gguf

    kinds = set()
    for kind, (_, size) in gguf.GGML_QUANT_SIZES.items():
        try:
            gguf.dequantize(np.zeros(size, np.uint8), kind)
        except NotImplementedError:
            continue
        kinds.add(kind.value)
    return frozenset(kinds)
