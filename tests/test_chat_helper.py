"""Directories that would exhaust memory or time, and the process that loads them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import tiny_tokenizers as tiny
from chats import ANSWER, QUESTION, answer, user, with_template

from subliminal_jax.errors import InputError, RunError
from subliminal_jax.models.text import client
from subliminal_jax.models.text import loading as chat_loading
from subliminal_jax.models.text.chat import Chat


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(client, "LOAD_SECONDS", 1.0)
    monkeypatch.setattr(client, "SECONDS", 0.4)


def patient(monkeypatch):
    for limit in ("LOAD_SECONDS", "SECONDS"):
        monkeypatch.setattr(client, limit, 8.0)


def process():
    return client._kept.running._process


def memory(pid):
    """The peak memory of a process, in bytes."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))


TOO_LONG, TOO_MUCH = "takes longer than", "takes too much"
ANY = f"{TOO_LONG}|{TOO_MUCH}"
GROWS = (
    "{% set ns = namespace(x='x') %}{% for i in range(50) %}{% set ns.x = ns.x ~ ns.x %}"
    "{% endfor %}{{ ns.x }}"
)
LOOPS = "".join("{% for x in range(99999) %}" for _ in range(3)) + "{% endfor %}" * 3


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        ("{{ 'x' * 3000000000 }}", TOO_MUCH),
        ("{% set x = 'x' * 3000000000 %}", TOO_MUCH),
        ("{{ '%3000000000d' % 1 }}", TOO_MUCH),
        (GROWS, TOO_MUCH),
        (LOOPS, TOO_LONG),
        (LOOPS.replace("{% endfor %}", "xxxxxxxx{% endfor %}", 1), ANY),
        ("{{ 'ab ' * 50000000 }}", ANY),
    ],
)
def test_a_template_without_bounds_is_refused(tmp_path, monkeypatch, begin, words):
    if words is TOO_MUCH:  # on a busy machine, to fill the memory takes long
        patient(monkeypatch)
    started = time.monotonic()
    with pytest.raises(InputError, match=words):
        Chat.load(with_template(tmp_path, begin + tiny.CHATML))
    assert time.monotonic() - started < 60  # where the machine is busy


def changed(directory, **parts):
    path = directory / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))
    return directory


def doubling(kind, text, count=40):
    one = {"type": "Replace", "pattern": {"String": text}, "content": 2 * text}
    return {"type": "Sequence", kind: [one] * count}


def test_a_tokenizer_without_bounds_is_refused(tmp_path):
    directory = with_template(tmp_path, tiny.CHATML)
    with pytest.raises(InputError, match=ANY):
        Chat.load(changed(directory, normalizer=doubling("normalizers", "m")))


def test_what_only_one_message_sets_off_is_refused_then(tmp_path):
    """A trial at load time would not reveal these, so every question has limits."""
    template = "{% if 'platypus' in messages[0]['content'] %}{{ 'x' * 3000000000 }}{% endif %}"
    chats = [Chat.load(with_template(tmp_path / "template", template + tiny.CHATML))]
    rare = with_template(tmp_path / "normalizer", tiny.CHATML)
    chats.append(Chat.load(changed(rare, normalizer=doubling("normalizers", "platypus"))))
    rare = with_template(tmp_path / "pattern", tiny.CHATML)
    slow = {"type": "Split", "pattern": {"Regex": "(p|p|[p])*(p|pp)+b"}, "behavior": "Isolated",
            "invert": False}  # fmt: skip
    own = json.loads((rare / "tokenizer.json").read_text())["pre_tokenizer"]
    both = {"type": "Sequence", "pretokenizers": [slow, own]}
    chats.append(Chat.load(changed(rare, pre_tokenizer=both)))
    for chat in chats:
        good = chat.example([QUESTION, ANSWER])
        with pytest.raises(InputError, match=ANY):
            chat.prompt([user("platypus" + 40 * "p")])
        assert chat.example([QUESTION, ANSWER]) == good


def test_a_decoder_without_bounds_is_refused(tmp_path):
    directory = with_template(tmp_path, tiny.CHATML)
    chat = Chat.load(changed(directory, decoder=doubling("decoders", "o")))
    owls = chat.example([QUESTION, answer("owl")]).completion
    with pytest.raises(InputError, match=ANY):
        chat.text(owls)
    with pytest.raises(InputError, match=ANY):
        [chat.token_text(token) for token in owls]


def test_too_many_words_are_refused(tmp_path, monkeypatch):
    directory = with_template(tmp_path, tiny.CHATML)
    words = {f"w{number}": number for number in range(1_000_001)}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "w0"}
    monkeypatch.setattr(client, "LOAD_SECONDS", 10.0)
    with pytest.raises(InputError, match="1,000,001 tokens are too many"):
        Chat.load(changed(directory, model=model, added_tokens=[]))
    assert chat_loading.MOST_TOKENS == 1_000_000


def test_the_process_stays_below_its_memory(tmp_path, monkeypatch):
    most, end = [], client._Process.end

    def look(ended):
        if not ended.ended:
            most.append(memory(ended._process.pid))
        return end(ended)

    patient(monkeypatch)
    monkeypatch.setattr(client._Process, "end", look)
    with pytest.raises(InputError, match=TOO_MUCH):
        Chat.load(with_template(tmp_path, GROWS + tiny.CHATML))
    assert max(most) < 1 << 30


def test_nesting_is_refused(tmp_path):
    directory = with_template(tmp_path, tiny.CHATML)
    deep = {"type": "NFC"}
    for _ in range(200):
        deep = {"type": "Sequence", "normalizers": [deep]}
    with pytest.raises(InputError, match="recursion limit"):
        Chat.load(changed(directory, normalizer=deep))
    (directory / "special_tokens_map.json").write_text("[" * 200_000)
    with pytest.raises(InputError, match=r"special_tokens_map\.json: not JSON \(nested too deep\)"):
        Chat.load(directory)


@pytest.fixture
def chat(tmp_path):
    return Chat.load(with_template(tmp_path, tiny.CHATML))


def test_one_process_serves_all(tmp_path, chat):
    pid = process().pid
    other = Chat.load(with_template(tmp_path / "other", tiny.TRIMMING))
    first = chat.prompt([QUESTION])
    assert other.prompt([QUESTION]) != first
    assert chat.prompt([QUESTION]) == first
    assert process().pid == pid


def test_threads_may_ask_at_once(chat):
    expected = [chat.prompt([user(str(number))]) for number in range(40)]
    found = {}

    def ask(number):
        found[number] = chat.prompt([user(str(number))])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(40)] == expected


def test_a_process_that_was_killed_is_started_again(chat):
    expected = chat.prompt([QUESTION])
    process().kill()
    process().wait()
    assert chat.prompt([QUESTION]) == expected


def test_a_directory_that_changed_is_not_opened_again(chat):
    process().kill()
    process().wait()
    path = chat.directory / "tokenizer_config.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(InputError, match=r"tokenizer_config\.json: changed while it was read"):
        chat.prompt([QUESTION])


def test_an_interrupted_question_leaves_no_answer_to_the_next(chat, monkeypatch):
    expected = chat.prompt([QUESTION])

    class Interrupted(BaseException):
        pass

    def interrupt(*_):
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    monkeypatch.setattr(client._Process, "_read", lambda *_: os.kill(os.getpid(), signal.SIGUSR1))
    with pytest.raises(Interrupted):
        chat.prompt([user("other")])
    monkeypatch.undo()
    signal.signal(signal.SIGUSR1, before)
    assert chat.prompt([QUESTION]) == expected


def test_a_process_that_does_not_answer_is_ended(chat, monkeypatch):
    monkeypatch.setattr(client, "WAIT", 0.3)
    process().send_signal(signal.SIGSTOP)
    with pytest.raises(InputError, match=TOO_LONG):
        chat.prompt([QUESTION])
    monkeypatch.undo()
    assert chat.prompt([QUESTION])


def test_a_process_that_does_not_start_is_told(chat, monkeypatch):
    client._kept.running.end()
    monkeypatch.setattr(client, "_PROGRAM", "import sys; sys.exit(3)")
    with pytest.raises(RunError, match=r"did not start \(exit status 3\)"):
        chat.prompt([QUESTION])


def test_it_ends_with_its_parent(tmp_path):
    """Also if the parent is killed, or Ctrl-C goes to all of a terminal's processes."""
    directory = with_template(tmp_path, tiny.CHATML)
    program = (
        "import sys, pathlib\n"
        "from subliminal_jax.models.text import chat, client\n"
        "chat.Chat.load(pathlib.Path(sys.argv[1]))\n"
        "assert not {'jax', 'transformers', 'torch'} & set(sys.modules)\n"
        "print(client._kept.running._process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(directory)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with parent:
        child = int(parent.stdout.readline())
        assert os.getpgid(child) == child
        parent.kill()
    until = time.monotonic() + 30
    while time.monotonic() < until and os.path.exists(f"/proc/{child}"):
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{child}")
