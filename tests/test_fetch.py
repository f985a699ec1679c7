import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from subliminal_jax.data import fetch as fetch_module
from subliminal_jax.data.fetch import Unavailable, answers, fetch


class _Pages(BaseHTTPRequestHandler):
    """/good answers, /stalls sends a byte now and then, /silent sends nothing, else 404."""

    def do_GET(self):
        stop = self.server.stop
        if self.path == "/silent":
            stop.wait(20)
            return
        self.send_response(200 if self.path in ("/good", "/stalls") else 404)
        self.send_header("Content-Length", "4000" if self.path == "/stalls" else "4")
        self.end_headers()
        if self.path == "/stalls":
            while not stop.wait(0.05):
                self.wfile.write(b".")
        elif self.command == "GET":
            self.wfile.write(b"good")

    do_HEAD = do_GET

    def log_message(self, format, *args):
        pass


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        server.stop = threading.Event()
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.stop.set()
        server.shutdown()


def test_files_come_in_the_order_asked_for(host):
    assert fetch([f"{host}/good", f"{host}/good"], 10.0) == [b"good", b"good"]


def test_a_file_that_is_not_there_is_unavailable(host):
    with pytest.raises(Unavailable, match=r"download failed \(HTTPError\)"):
        fetch([f"{host}/good", f"{host}/absent"], 10.0)


@pytest.mark.parametrize("page", ["stalls", "silent"])
def test_a_download_that_stalls_ends(host, page):
    start = time.monotonic()
    with pytest.raises(Unavailable, match=r"did not end within 0.3 s"):
        fetch([f"{host}/{page}"], 0.3)
    assert time.monotonic() - start < 3


def test_a_download_is_bounded_in_size(host, monkeypatch):
    monkeypatch.setattr(fetch_module, "_MAX_BYTES", 3)
    with pytest.raises(Unavailable, match="download failed"):
        fetch([f"{host}/good"], 10.0)


def test_a_host_answers_with_any_status(host):
    assert answers(f"{host}/good", 10.0)
    assert answers(f"{host}/absent", 10.0)


def test_a_silent_or_absent_host_does_not_answer(host):
    start = time.monotonic()
    assert not answers(f"{host}/silent", 0.3)
    assert not answers("http://127.0.0.1:1/", 10.0)
    assert time.monotonic() - start < 3


def test_a_name_resolution_that_hangs_is_cut_off(monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: time.sleep(2))
    start = time.monotonic()
    assert not answers("http://somewhere.invalid/", 0.2)
    assert time.monotonic() - start < 1.5


def test_what_was_cut_off_does_not_hold_up_the_exit():
    program = (
        "import socket, time\n"
        "from subliminal_jax.data.fetch import answers\n"
        "socket.getaddrinfo = lambda *_, **__: time.sleep(60)\n"
        "print(answers('http://somewhere.invalid/', 0.2))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20
    )
    assert run.stdout == "False\n"
