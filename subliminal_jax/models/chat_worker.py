"""The process in which strangers' tokenizers and chat templates run: limits, then questions.

`chat_helper` starts it and asks: a line of JSON each way. Processor time is limited for each
question by a timer whose signal ends the process, memory for all of them by the system, and no
file can be written. Nothing of JAX is here.
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

MEMORY = 850 << 20
"""Bytes beyond those of the bare process, which then stays below 1 GiB.

A tokenizer of 256,000 words takes half of them while it is loaded.
"""

LARGEST_REPLY = 64 << 20
ENOUGH = 1 << 20
"""Tokens and characters in one reply to several questions; the others are asked again."""

_ABSENT = (
    *("torch", "jax", "flax", "tensorflow", "torchvision", "torchaudio"),
    *("sentencepiece", "tiktoken", "mistral_common"),
)
"""What transformers would use where it is installed, and so differ from place to place."""


def main() -> None:
    """Answers until its input ends."""
    questions, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no reply
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
                if opened != (asked := json.dumps(question["opened"])):  # 1 is not True there
                    opened = conversations = None  # its memory, before the next one's
                    conversations = _open(question["opened"])
                    opened = asked
            reply = {"value": _answer(conversations, question)}
        except InputError as error:
            reply = {"refused": str(error)}
        except MemoryError:
            reply = {"too_large": True}
        except Exception as error:  # whatever a stranger's directory brings about
            what = " ".join(f"{type(error).__name__}: {error}".split())
            reply = {"refused": f"the tokenizer or the chat template fails ({what[:300]})"}
        _send(replies, reply)


def _prepare() -> None:
    """What takes long and needs files comes before the limits."""
    import transformers

    from subliminal_jax.models import chat_conversations, chat_loading  # noqa: F401
    from subliminal_jax.models.chat_template import renderer

    renderer()
    transformers.AutoTokenizer  # noqa: B018  imported when it is named
    chat_loading.watch()
    _limit_process()


def _open(opened: dict[str, Any]) -> Any:
    from subliminal_jax.models.chat_conversations import Conversations
    from subliminal_jax.models.chat_loading import load

    loaded = load(Path(opened["directory"]), opened["digests"], opened["template"])
    return Conversations(loaded, opened["options"])


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
        case "prompt":
            return _each(conversations.prompt, len, about, seconds)
        case "example":
            return _each(conversations.example, lambda one: sum(map(len, one)), about, seconds)
        case "text":
            return _each(conversations.text, len, about, seconds)
        case "token_texts":
            with _time_limit(seconds):
                return [conversations.token_text(token) for token in range(*about)]


def _each(
    answer: Callable[[Any], Any], size: Callable[[Any], int], questions: list[Any], seconds: float
) -> dict[str, Any]:
    """The answers up to a refusal, or up to as many as one reply holds."""
    answers: list[Any] = []
    there = 0
    for question in questions:
        try:
            with _time_limit(seconds):
                answers.append(answer(question))
        except InputError as error:
            return {"answers": answers, "refusal": str(error)}
        there += size(answers[-1])
        if there > ENOUGH:
            break
    return {"answers": answers, "refusal": None}


def _send(replies: BinaryIO, reply: dict[str, Any]) -> None:
    data = json.dumps(reply).encode()
    if len(data) > LARGEST_REPLY:
        data = json.dumps({"too_large": True}).encode()
    replies.write(data + b"\n")
    replies.flush()


def _limit_process() -> None:
    """Memory beyond what the process has now, no file that grows, no dump of a crash."""
    for kind, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
        resource.setrlimit(kind, (most, most))
    sys.dont_write_bytecode = True
    with contextlib.suppress(OSError):  # where there is no /proc, the system has no such limit
        has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = has + MEMORY if hard == resource.RLIM_INFINITY else min(has + MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Processor time, after which the signal SIGPROF ends the process, whatever it does."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main()
