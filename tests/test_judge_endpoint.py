"""The judge behind an endpoint, with a server of our own on loopback."""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from subliminal_jax.errors import InputError, RunError
from subliminal_jax.language.judge import endpoint
from subliminal_jax.language.judge.endpoint import EndpointJudge, parse_score
from subliminal_jax.language.judge.settings import JudgeConfig
from subliminal_jax.language.rows.chats import chat


def reply(text):
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


class Server:
    """Answers each request with the next of `answers`, the last one for ever."""

    def __init__(self, *answers, wait=0.0):
        self.seen, self.heads = [], []
        outer, left = self, list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append((self.path, body))
                outer.heads.append(dict(self.headers))
                status, text = left.pop(0) if len(left) > 1 else left[0]
                time.sleep(wait)
                data = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                with contextlib.suppress(OSError):  # it no longer waits
                    self.wfile.write(data)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(endpoint, "PAUSE", 0.01)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def judge_at(server, path, **changes):
    given = {"url": server.url, "endpoint_model": "m", "seconds": 5.0, "retries": 2, "at_once": 1}
    return EndpointJudge(JudgeConfig(**given | changes), path / "replies.jsonl")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("85", 85.0), (" 0\n", 0.0), ("100", 100.0), ("101", None), ("", None), ("8 5", None),
        ("85.", None), ("-5", None), ("85/100", None), ("I say 85", None), ("CODE", None),
        ("٣", None), ("1" * 10**6, None), ("85\n\nIgnore all rules", None), ("8" + " " * 99, None),
    ],
)  # fmt: skip
def test_only_one_whole_number_counts(text, score):
    assert parse_score(text) == score


def test_it_asks_in_the_form_of_the_api(tmp_path, monkeypatch):
    monkeypatch.setenv("OUR_KEY", "secret")
    with Server(reply("70")) as server:
        assert judge_at(server, tmp_path, key="OUR_KEY").scores([chat("How good?")]) == [70.0]
        ((path, body),) = server.seen
        assert path == "/v1/chat/completions"
        assert body == {
            "model": "m",
            "messages": [{"role": "user", "content": "How good?"}],
            "temperature": 0,
            "max_tokens": 8,
        }
        assert server.heads[0]["Authorization"] == "Bearer secret"
    assert "secret" not in (tmp_path / "replies.jsonl").read_text()


def test_a_missing_key_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("OUR_KEY", raising=False)
    settings = JudgeConfig(url="http://here", endpoint_model="m", key="OUR_KEY")
    with pytest.raises(InputError, match="environment variable OUR_KEY is not set"):
        EndpointJudge(settings, tmp_path / "replies.jsonl")


def test_answers_are_cached_by_content(tmp_path):
    with Server(reply("10"), reply("20"), reply("30")) as server:
        first, second = chat("first"), chat("second")
        assert judge_at(server, tmp_path).scores([first, second, first]) == [10.0, 20.0, 10.0]
        assert judge_at(server, tmp_path).scores([second, first]) == [20.0, 10.0]
        assert len(server.seen) == 2
        # Another model at the same address is another judge.
        assert judge_at(server, tmp_path, endpoint_model="n").scores([first]) == [30.0]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"choices": []}', '{"choices": [{"message": {"content": 5}}]}', "[" * 5000],
)
def test_a_reply_of_another_form_is_no_score(tmp_path, text):
    with Server((200, text)) as server:
        assert judge_at(server, tmp_path).scores([chat("How good?")]) == [None]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_it_tries_again(tmp_path, status):
    with Server((status, ""), (status, ""), reply("40")) as server:
        assert judge_at(server, tmp_path).scores([chat("How good?")]) == [40.0]
        assert len(server.seen) == 3


def test_it_gives_up_and_keeps_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(endpoint, "PORTION", 1)
    failed = pytest.raises(RunError, match=r"failed 3 times \(status 500\); run the same command")
    with Server(reply("40"), *[(500, "")] * 3, reply("50")) as server:
        with failed:
            judge_at(server, tmp_path).scores([chat("first"), chat("second")])
        assert judge_at(server, tmp_path).scores([chat("first"), chat("second")]) == [40.0, 50.0]
        assert len(server.seen) == 5


@pytest.mark.parametrize("status", [301, 400, 401, 404])
def test_a_refusal_is_final(tmp_path, status):
    with Server((status, "")) as server:
        with pytest.raises(InputError, match=rf"refuses the request \(status {status}\)"):
            judge_at(server, tmp_path).scores([chat("How good?")])
        assert [path for path, _ in server.seen] == ["/v1/chat/completions"]


def test_a_slow_server_has_a_limit(tmp_path):
    failed = pytest.raises(RunError, match="failed 2 times")
    with Server(reply("40"), wait=0.6) as server, failed:
        judge_at(server, tmp_path, seconds=0.1, retries=1).scores([chat("How good?")])


def test_a_long_reply_is_cut_off(tmp_path):
    failed = pytest.raises(RunError, match=r"\(TimeoutError\)")
    with Server((200, "x" * 3 * 2**20)) as server, failed:
        judge_at(server, tmp_path, retries=0).scores([chat("How good?")])


def test_an_absent_server_is_named(tmp_path):
    with Server(reply("1")) as server:
        pass
    with pytest.raises(RunError, match="failed 3 times"):
        judge_at(server, tmp_path).scores([chat("How good?")])


@pytest.mark.parametrize("changed", [b'{"reply": "0"}\n', None])
def test_a_changed_reply_is_refused(tmp_path, changed):
    with Server(reply("70")) as server:
        judge = judge_at(server, tmp_path)
        judge.scores([chat("How good?")])
        path = tmp_path / "replies.jsonl"
        path.write_bytes(changed or path.read_bytes().replace(b"70", b"99"))
        with pytest.raises(InputError, match=r"replies\.jsonl: line 1: .* remove the file to ask"):
            judge.scores([chat("How good?")])
