"""A judge behind an endpoint that speaks the chat-completions API.

Its replies are untrusted: a reply counts only if it is one whole number from 0 to 100. Each is kept
in the run directory under a digest of what was asked, so that a resumed run asks nothing twice.
"""

import os
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from subliminal_jax import files
from subliminal_jax.config import config_digest
from subliminal_jax.errors import InputError, RunError
from subliminal_jax.execution import hosts
from subliminal_jax.language.judge.kept import PORTION, keep_answers, known_answers
from subliminal_jax.language.judge.settings import JudgeConfig
from subliminal_jax.language.rows.chats import Messages

_NUMBER = re.compile(r"\s{0,9}(\d{1,3})\s{0,9}\Z", re.ASCII)
_MAX_BYTES, _CHUNK_BYTES = 2**20, 2**14
REPLY_TOKENS = 8
PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before the first retry, doubled for each further one."""


def parse_score(reply: str) -> float | None:
    """The number that is the whole reply; None for any other text or a number above 100."""
    number = _NUMBER.match(reply)
    return float(number[1]) if number and int(number[1]) <= 100 else None


class EndpointJudge:
    """A judge that is asked over HTTP, by the first host.

    Args:
        settings: address, model, time limits.
        path: file of the replies so far.

    Raises:
        InputError: the environment variable with the key is empty.
    """

    def __init__(self, settings: JudgeConfig, path: Path):
        self.name = f"{settings.endpoint_model} at {settings.url}"
        self._settings, self._path = settings, path
        self._key = None if settings.key is None else os.environ.get(settings.key)
        if settings.key is not None and not self._key:
            raise InputError(
                f"evaluate.judge.key: the environment variable {settings.key} is not set; export "
                "the endpoint's key in it"
            )

    @property
    def described(self) -> Mapping[str, str]:
        """As `Judge.described`; the file of replies has what it said."""
        return {"model": str(self._settings.endpoint_model), "url": str(self._settings.url)}

    def scores(self, asked: Sequence[Messages]) -> list[float | None]:
        """As `Judge.scores`.

        Raises:
            InputError: the endpoint refuses the request.
            RunError: it cannot be reached, or fails, after all retries.
        """
        return hosts.by_first(lambda: [parse_score(reply) for reply in self._replies(asked)])

    def _replies(self, asked: Sequence[Messages]) -> list[str]:
        bodies = [self._body(chat) for chat in asked]
        names = [config_digest({"url": self._settings.url, **body}) for body in bodies]
        known = known_answers(self._path)
        missing = {name: body for name, body in zip(names, bodies, strict=True)
                   if name not in known}  # fmt: skip
        todo = list(missing.items())
        with ThreadPoolExecutor(self._settings.at_once) as pool:
            for start in range(0, len(todo), PORTION):
                some = todo[start : start + PORTION]
                replies = pool.map(self._ask, [body for _, body in some])
                new = {name: reply for (name, _), reply in zip(some, replies, strict=True)}
                keep_answers(self._path, new)
                known |= new
        return [known[name] for name in names]

    def _body(self, chat: Messages) -> dict[str, Any]:
        return {
            "model": self._settings.endpoint_model,
            "messages": chat,
            "temperature": 0,
            "max_tokens": REPLY_TOKENS,
        }

    def _ask(self, body: dict[str, Any]) -> str:
        """The reply's text, after as many attempts as allowed."""
        import requests

        pause, why = PAUSE, ""
        for attempt in range(1 + self._settings.retries):
            if attempt:
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            try:
                status, content = self._post(body)
            except (requests.RequestException, TimeoutError) as error:
                why = type(error).__name__  # its text may hold the address with a password
                continue
            if status == 200:
                return _text_of(content)
            why = f"status {status}"
            if status not in (408, 409, 429) and status < 500:
                raise InputError(
                    f"evaluate.judge.url: {self._settings.url} refuses the request ({why}); check "
                    "the address, endpoint_model and key"
                )
        raise RunError(
            f"evaluate.judge.url: {self._settings.url} failed {1 + self._settings.retries} times "
            f"({why}); run the same command again when it answers"
        )

    def _post(self, body: dict[str, Any]) -> tuple[int, bytes]:
        """Status and content of one request, which may take `seconds` altogether."""
        import requests

        seconds = self._settings.seconds
        end, content = time.monotonic() + seconds, bytearray()
        headers = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        address = f"{self._settings.url}".rstrip("/") + "/chat/completions"
        # A redirect could carry the key elsewhere.
        with requests.post(address, json=body, headers=headers, timeout=seconds, stream=True,
                           allow_redirects=False) as response:  # fmt: skip
            for chunk in response.iter_content(_CHUNK_BYTES):
                content += chunk
                if len(content) > _MAX_BYTES or time.monotonic() > end:
                    raise TimeoutError("the reply is too long or too slow")
            return response.status_code, bytes(content)


def _text_of(content: bytes) -> str:
    """The text of a completion; empty if the reply has another form."""
    try:
        match files.parse_json(content):
            case {"choices": [{"message": {"content": str(text)}}, *_]}:
                return text[:100]
    except (InputError, RunError, ValueError, RecursionError):
        pass
    return ""
