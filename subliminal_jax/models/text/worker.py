"""The process that runs untrusted tokenizers and chat templates, within limits.

`client` starts it and sends questions: a line of JSON each way. A timer whose signal ends the
process limits the processor time of each question, the system limits the memory, and no file can be
written. JAX is not imported here.
"""

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from subliminal_jax.errors import InputError
from subliminal_jax.models.text.chat_files import HEADER

MEMORY = 850 << 20
"""Bytes on top of the bare process's; together they stay below 1 GiB.

Loading a vocabulary of 256,000 tokens takes half of them.
"""

LARGEST_REPLY = 64 << 20
ENOUGH = 1 << 20
"""Tokens and characters at which a reply to several questions ends; the rest are asked again."""

_ABSENT = (
    *("torch", "jax", "flax", "tensorflow", "torchvision", "torchaudio"),
    *("sentencepiece", "tiktoken", "mistral_common"),
)
"""Packages that transformers would use if installed, so that results would vary by machine."""


def main() -> None:
    """Answers until its input ends."""
    questions, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the replies
    for name in _ABSENT:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        _prepare()
    except Exception as error:
        _send(replies, {"failed": f"{type(error).__name__}: {error}"})
        return
    _send(replies, {})
    opened, conversations = None, None
    for line in questions:
        question = json.loads(line)
        try:
            with _time_limit(question["opened"]["seconds"]):
                if opened != (asked := json.dumps(question["opened"])):  # in JSON 1 is not True
                    opened = conversations = None  # frees its memory before the next is loaded
                    conversations = _open(question["opened"])
                    opened = asked
            reply = {"value": _answer(conversations, question)}
        except InputError as error:
            reply = {"refused": str(error)}
        except MemoryError:
            reply = {"too_large": True}
        except Exception as error:  # whatever an untrusted directory raises
            what = " ".join(f"{type(error).__name__}: {error}".split())
            reply = {"refused": f"the tokenizer or the chat template fails ({what[:300]})"}
        _send(replies, reply)


def _prepare() -> None:
    """Does all that is slow or needs files, then sets the limits."""
    import transformers

    from subliminal_jax.models.text import conversations as chat_conversations  # noqa: F401
    from subliminal_jax.models.text import loading as chat_loading
    from subliminal_jax.models.text.gguf import loading as gguf_loading  # noqa: F401
    from subliminal_jax.models.text.template import renderer

    renderer()
    transformers.AutoTokenizer  # noqa: B018  imported when it is named
    chat_loading.watch()
    _limit_process()


def _open(opened: dict[str, Any]) -> Any:
    from subliminal_jax.models.text import loading
    from subliminal_jax.models.text.conversations import Conversations
    from subliminal_jax.models.text.gguf import loading as gguf_loading

    place = Path(opened["directory"])
    load = gguf_loading.load if HEADER in opened["digests"] else loading.load
    return Conversations(load(place, opened["digests"], opened["template"]), opened["options"])


def _answer(conversations: Any, question: dict[str, Any]) -> Any:
    about, seconds = question["about"], question["seconds"]
    match question["what"]:
        case "about":
            return {
                "digest": conversations.digest,
                "size": conversations.size,
                "stop_ids": sorted(conversations.stop_ids),
                "control_ids": sorted(conversations.control_ids),
            }
        case "files":
            with _time_limit(question["opened"]["seconds"]):
                return conversations.files()
        case "prompt":
            return _each(conversations.prompt, len, about, seconds)
        case "example":
            return _each(conversations.example, lambda one: sum(map(len, one)), about, seconds)
        case "text":
            return _each(conversations.text, len, about, seconds)
        case "token_texts":
            with _time_limit(seconds):
                return [conversations.token_text(token) for token in range(*about)]
        case "pieces":
            with _time_limit(seconds):
                return [conversations.piece(token) for token in range(*about)]


def _each(
    answer: Callable[[Any], Any], size: Callable[[Any], int], questions: list[Any], seconds: float
) -> dict[str, Any]:
    """The answers up to the first refusal, or until the reply is full."""
    answers: list[Any] = []
    total = 0
    for question in questions:
        try:
            with _time_limit(seconds):
                answers.append(answer(question))
        except InputError as error:
            return {"answers": answers, "refusal": str(error)}
        total += size(answers[-1])
        if total > ENOUGH:
            break
    return {"answers": answers, "refusal": None}


def _send(replies: BinaryIO, reply: dict[str, Any]) -> None:
    data = json.dumps(reply).encode()
    if len(data) > LARGEST_REPLY:
        data = json.dumps({"too_large": True}).encode()
    replies.write(data + b"\n")
    replies.flush()


def _limit_process() -> None:
    """Limits memory to `MEMORY` above what is in use; no file may grow, no crash is dumped."""
    for kind, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
        resource.setrlimit(kind, (most, most))
    sys.dont_write_bytecode = True
    with contextlib.suppress(OSError):  # without /proc the system has no such limit
        has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = has + MEMORY if hard == resource.RLIM_INFINITY else min(has + MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Ends the process by SIGPROF after `seconds` of processor time, whatever it does."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
