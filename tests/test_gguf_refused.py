"""GGUF files that are damaged, malicious or not supported: one line each, before allocation."""

import resource
import struct

import numpy as np
import pytest
from torch_models import FIXTURES

gguf = pytest.importorskip("gguf", reason="GGUF files are read with the package gguf, an extra")

from gguf_files import write_gguf  # noqa: E402

from subliminal_jax.errors import InputError  # noqa: E402
from subliminal_jax.models.hub.gguf import header as headers  # noqa: E402
from subliminal_jax.models.hub.gguf.header import read_header  # noqa: E402
from subliminal_jax.models.hub.weights import load  # noqa: E402

MODEL = FIXTURES / "llama" / "model"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("whole") / "model.gguf", MODEL).read_bytes()


def check_refused(path, message):
    with pytest.raises(InputError, match=message) as caught:
        load(str(path))
    assert "\n" not in str(caught.value)
    assert str(path.parent) in str(caught.value)


def setting(key, kind, value):
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


def made(*settings, tensors=(), version=3, counts=None):
    """A header made by hand; a tensor is (name, shape as stored, type, offset)."""
    tensor_count, setting_count = counts or (len(tensors), len(settings))
    data = b"GGUF" + struct.pack("<IQQ", version, tensor_count, setting_count) + b"".join(settings)
    for name, shape, kind, offset in tensors:
        data += struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(shape))
        data += struct.pack(f"<{len(shape)}QIQ", *shape, kind, offset)
    return data


ARCHITECTURE = setting("general.architecture", 8, struct.pack("<Q", 5) + b"llama")
HUGE = struct.pack("<Q", 2**62)
BROKEN = {
    "empty": (b"", "is not a GGUF file"),
    "another format": (b"PK\x03\x04" + bytes(40), "is not a GGUF file"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
    "cut in the counts": (made()[:12], "is truncated"),
    "an old version": (made(version=1), "GGUF version 1; supported are 2 and 3"),
    "another byte order": (made(version=3 << 24), "of another byte order"),
    "too many tensors": (made(counts=(2**40, 0)), r"counts 1,099,511,627,776 tensors"),
    "too many settings": (made(counts=(0, 2**63)), "settings; at most"),
    "tensors that the file cannot hold": (made(counts=(199_999, 0)), "it counts 199,999 tensors"),
    "a name without end": (made(HUGE, counts=(0, 1)) + bytes(64), "a name of 4,611,686,018"),
    "a name without text": (made(setting("", 4, bytes(4))), "has the name ''"),
    "a name of two lines": (made(setting("a\nb", 4, bytes(4))), r"has the name 'a\\nb'"),
    "no UTF-8": (made(setting("a", 8, struct.pack("<Q", 1) + b"\xff")), "not UTF-8"),
    "a text without end": (made(setting("a", 8, HUGE)), "a of 4,611,686,018,427,387,904 bytes"),
    "a list without end": (made(setting("a", 9, struct.pack("<I", 8) + HUGE)), "values of a; at"),
    "a list longer than the file": (
        made(setting("a", 9, struct.pack("<IQ", 4, 3_000_000))), "it counts 3,000,000 values of a"),
    "a list of lists": (made(setting("a", 9, struct.pack("<IQ", 9, 0))), "unknown type 9"),
    "an unknown type": (made(setting("a", 77, bytes(8))), "of the unknown type 77"),
    "no truth": (made(setting("a", 7, b"\x02")), "neither true nor false"),
    "no number": (made(setting("a", 6, struct.pack("<f", float("nan")))), "has a=nan"),
    "a setting twice": (made(ARCHITECTURE, ARCHITECTURE), "general.architecture twice"),
    "no architecture": (made(), "of the architecture 'None', which is not supported"),
    "odd alignment": (
        made(ARCHITECTURE, setting("general.alignment", 4, struct.pack("<I", 48))),
        "general.alignment that is no power of two"),
    "no axis": (made(tensors=[("x", (), 0, 0)]), "x with 0 axes"),
    "many axes": (made(tensors=[("x", (1,) * 9, 0, 0)]), "x with 9 axes"),
    "an endless axis": (made(tensors=[("x", (2**40,), 0, 0)]), "of the impossible shape"),
    "an empty axis": (made(tensors=[("x", (0,), 0, 0)]), "of the impossible shape"),
    "a far offset": (made(tensors=[("x", (1,), 0, 2**60)]), "x begins behind its end"),
    "large tensors": (
        made(ARCHITECTURE, tensors=[("x", (2**30, 2**30), 0, 0)]) + bytes(64), "is truncated: x"),
    "a tensor twice": (
        made(ARCHITECTURE, tensors=[("x", (1,), 0, 0)] * 2) + bytes(64), "two tensors named x"),
    "overlap": (
        made(ARCHITECTURE, tensors=[("x", (4,), 0, 0), ("y", (4,), 0, 8)]) + bytes(96),
        "y overlaps x"),
    "a type without values": (
        made(ARCHITECTURE, tensors=[("x", (4,), 26, 0)]) + bytes(96),
        "x is of the storage type I32, which is not supported; supported are F32"),
    "an unknown storage type": (
        made(ARCHITECTURE, tensors=[("x", (4,), 4711, 0)]) + bytes(96), "storage type 4711"),
    "no whole blocks": (
        made(ARCHITECTURE, tensors=[("x", (31,), 8, 0)]) + bytes(96), "whole blocks of 32"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_a_damaged_header(data, message, tmp_path):
    (tmp_path / "model.gguf").write_bytes(data)
    check_refused(tmp_path / "model.gguf", message)


def test_a_file_cut_anywhere_is_refused(whole, tmp_path):
    path = tmp_path / "model.gguf"
    for length in np.linspace(0, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:length])
        check_refused(path, "truncated|is not a GGUF file")


def test_random_bytes_in_a_header_are_read_or_refused_in_one_line(whole, tmp_path):
    """Any byte of the header may be any other; nothing but an `InputError` comes of it."""
    path, random = tmp_path / "model.gguf", np.random.default_rng(0)
    path.write_bytes(whole)
    length = read_header(path).length
    refused = []
    for _ in range(300):
        data = bytearray(whole)
        for place in random.integers(0, length, random.integers(1, 4)):
            data[place] = random.integers(0, 256)
        path.write_bytes(data)
        refused.append(refusal(path))
    assert not any("\n" in line for line in refused)
    assert 0 < refused.count("") < 300


def refusal(path):
    try:
        load(str(path))
    except InputError as error:
        return str(error)
    return ""


def test_what_a_file_counts_is_not_allocated(tmp_path):
    """Each of these claims gigabytes in a file of some bytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("a list without end", "large tensors", "too many tensors", "a text without end"):
        (tmp_path / "model.gguf").write_bytes(BROKEN[name][0])
        check_refused(tmp_path / "model.gguf", ".")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (50 << 10)


def test_a_header_without_end(monkeypatch, whole, tmp_path):
    monkeypatch.setattr(headers, "LARGEST_HEADER", 200)
    (tmp_path / "model.gguf").write_bytes(whole)
    check_refused(tmp_path / "model.gguf", "a header of more than 200 bytes")


SETTINGS = {
    "an unknown setting": (("bool", "llama.use_parallel_residual", True), "is not supported"),
    "experts": (("expert_count", 8), "llama.expert_count is not supported"),
    "yarn": (("rope_scaling_type", gguf.RopeScalingType.YARN), "rope.scaling.factor is missing"),
    "a partial rotation": (("rope_dimension_count", 2), "only rotations of all 4 dimensions"),
    "another head for values": (("value_length", 8), "value_length differs from key_length"),
    "layers that differ": (("feed_forward_length", [22, 23]), "layers differ in feed_forward"),
    "values for other layers": (("feed_forward_length", [22] * 5), "5 values, not one for each"),
    "another vocabulary": (("vocab_size", 7), "vocab_size=7, but token_embd.weight has"),
    "no heads": (("head_count", 0), "attention.head_count=0"),
    "heads that do not divide the rows": (("head_count", 5), "24 rows, not an even number"),
    "more layers than there are": (("block_count", 3), "its metadata counts 3 layers and 2"),
    "fewer layers than there are": (("block_count", 1), "not part of the model in its metadata"),
    "too many layers": (("block_count", 2**31), "its metadata as a config.json"),
    "text for a count": (("string", "llama.block_count", "two"), "block_count is missing or not"),
}


@pytest.mark.parametrize(("change", "message"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_are_not_supported(change, message, tmp_path):
    name, *arguments = change
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "add_key_value", _replacing)
        path = write_gguf(tmp_path / "model.gguf", MODEL, settings=[(name, *arguments)])
    check_refused(path, message)


def _replacing(self, key, value, kind, sub_type=None):
    self.kv_data[0][key] = gguf.gguf_writer.GGUFValue(value, kind, sub_type)


def test_weights_that_are_not_finite(tmp_path):
    bad = np.full(24, np.nan, np.float32)
    path = write_gguf(tmp_path / "model.gguf", MODEL)
    data = bytearray(path.read_bytes())
    offset = read_header(path).tensors["output_norm.weight"].offset
    data[offset : offset + bad.nbytes] = bad.tobytes()
    path.write_bytes(data)
    check_refused(path, "output_norm.weight holds NaN")


def test_an_architecture_that_is_not_supported(tmp_path):
    stated = setting("general.architecture", 8, struct.pack("<Q", 6) + b"falcon")
    (tmp_path / "model.gguf").write_bytes(made(stated))
    check_refused(
        tmp_path / "model.gguf",
        "of the architecture 'falcon', which is not supported; supported are llama, qwen2",
    )


def test_big_endian(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", MODEL, endianess=gguf.GGUFEndian.BIG)
    check_refused(path, "of another byte order; convert it to little-endian")


def test_a_header_is_what_the_package_reads(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", MODEL)
    ours, theirs = read_header(path), gguf.GGUFReader(path)
    fields = {key: field for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert dict(ours.settings) == {key: field.contents() for key, field in fields.items()}
    for tensor in theirs.tensors:
        entry = ours.tensors[tensor.name]
        assert entry.shape == tuple(reversed(tensor.shape.tolist()))
        assert (entry.kind, entry.offset) == (tensor.tensor_type.value, tensor.data_offset)
