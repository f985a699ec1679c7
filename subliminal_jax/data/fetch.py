"""Downloads with a hard time limit.

tensorflow-datasets has none, and its download threads keep the process alive.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

PROBE_SECONDS = 3.0
_MAX_BYTES = 16 * 2**20
_CHUNK_BYTES = 2**16

T = TypeVar("T")


class Unavailable(Exception):
    """The data can be neither found nor fetched; the message says why, in one clause."""


def answers(url: str, seconds: float = PROBE_SECONDS) -> bool:
    """Whether the host of an http(s) address answers within some seconds, with any status."""

    def ask() -> None:
        import requests

        requests.head(url, timeout=seconds + 1).close()

    try:
        _within(seconds, ask)
    except OSError:  # requests' errors and TimeoutError among them
        return False
    return True


def fetch(urls: Sequence[str], seconds: float) -> list[bytes]:
    """Download some small files (at most 16 MiB each), one after the other, into memory.

    Args:
        urls: The http(s) addresses.
        seconds: The limit on all of them together.

    Raises:
        Unavailable: The download failed or took too long.
    """
    try:
        return _within(seconds, lambda: [_download(url, seconds) for url in urls])
    except TimeoutError as error:
        raise Unavailable(f"its download did not end within {seconds:g} s") from error
    except OSError as error:
        raise Unavailable(f"its download failed ({type(error).__name__})") from error


def _download(url: str, seconds: float) -> bytes:
    import requests

    content = bytearray()
    with requests.get(url, stream=True, timeout=seconds + 1) as response:
        response.raise_for_status()
        for chunk in response.iter_content(_CHUNK_BYTES):
            content += chunk
            if len(content) > _MAX_BYTES:
                raise OSError(f"{url} is larger than {_MAX_BYTES} bytes")
    return bytes(content)


def _within(seconds: float, work: Callable[[], T]) -> T:
    """The result of `work()`; TimeoutError after `seconds`, leaving the work to its thread.

    Socket timeouts bound neither name resolution nor a server that sends a byte now and then. A
    daemon thread does not delay the exit of the process; its socket timeouts end it a second later.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future.result(timeout=seconds)
