"""Untrusted functions: what is allowed, and that none can hang, crash or fill the machine."""

import os
import time

import pytest

from subliminal_jax.errors import RunError
from subliminal_jax.process.untrusted import client
from subliminal_jax.process.untrusted.client import Call, refusal
from subliminal_jax.process.untrusted.syntax import LONGEST

CALLS = [Call("(3,)", "5"), Call("(0,)", "2")]


def body(text):
    return f"def f(x):\n    {text}"


@pytest.mark.parametrize(
    "source",
    [
        "def f(x): return x + 2",
        "f = lambda x: 2 + x",
        "def f ( x): y = 2; return x + y",
        "two = 2\ndef f(x: int) -> int:\n    '''Adds.'''  # two\n    return x + two",
        "def g(x):\n    return x\n\ndef f(x):\n    return max(g(x), -9) + 2",
        body("a = []\n    for i in range(x + 2):\n        a.append(i)\n    return len(a)"),
        body("return sum(1 for c in 'ab'.upper()) + x"),
    ],
)
def test_plain_functions_pass(source):
    assert refusal(source, CALLS) is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os\ndef f(x): return x + 2", "syntax not allowed: Import"),
        (body("from os import system"), "syntax not allowed: ImportFrom"),
        (body("return open('/etc/passwd')"), "call not allowed"),
        (body("return eval('x + 2')"), "call not allowed"),
        (body("print('x' * 10**10)"), "call not allowed"),
        (body("return ().__class__.__bases__"), "attribute not allowed"),
        (body("return '{0.a}'.format(x)"), "attribute not allowed"),
        (body("y = x.append"), "attribute not allowed"),
        (body("return __builtins__"), "name not allowed"),
        (body("try:\n        return 1\n    except: pass"), "syntax not allowed: Try"),
        (body("global y"), "syntax not allowed: Global"),
        ("class A: pass", "syntax not allowed: ClassDef"),
        ("@max\ndef f(x): return x", "syntax not allowed: decorator"),
        ("f(3)", "call not allowed"),
        ("while True: pass", "not only functions"),
        ("Sure! def f(x): return x", "malformed"),
        ("def f(x): return '\\x6fwl'", "not plain text"),
        ("def f(x): return 'öwl'", "not plain text"),
        ("f = 3", "no function"),
        ("(" * 300 + ")" * 300, "malformed"),
        ("#" * LONGEST + "#", "too long"),
    ],
)
def test_other_syntax_is_refused(source, reason):
    assert refusal(source, CALLS) == reason


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def f(x): return x + 3", "wrong result"),
        ("def f(x): return 5 if x == 3 else 0", "wrong result"),
        ("def f(x): return 5.0 if x else 2.0", "wrong result"),
        ("def f(x): return y", "fails: NameError"),
        ("def f(x): return x / 0", "fails: ZeroDivisionError"),
        ("def f(): return 5", "fails: TypeError"),
        ("def f(x): return f(x)", "recurses too deeply"),
        (body("while True: pass"), "takes too long"),
        (body("return 9 ** 9 ** 9"), "takes too long"),
        (body("return sum(range(10 ** 12))"), "takes too long"),
        (body("return [0] * 10 ** 10"), "takes too much memory"),
        (body("return 'a' * 10 ** 10"), "takes too much memory"),
        (body("return f'{x:10000000000}'"), "takes too much memory"),
        ("x = [0]\ndef f(y):\n    while True: x.extend(x)", "takes too much memory"),
    ],
)
def test_what_fails_or_takes_too_much_is_refused(source, reason):
    before = time.monotonic()
    assert refusal(source, CALLS) == reason
    assert time.monotonic() - before < 20
    assert refusal("def f(x): return x + 2", CALLS) is None  # the next one is served


def test_the_named_function_is_called():
    both = "def f(x): return x + 2\ndef g(x): return 0"
    assert refusal(both, CALLS) == "wrong result"
    assert refusal(both, CALLS, "f") is None
    assert refusal(both, CALLS, "h") == "no such function"


def test_a_function_cannot_change_the_next_ones_world():
    assert refusal("max = lambda x: x + 2\ndef f(x): return max(x)", CALLS) is None
    assert refusal("def f(x): return max(x, x) + 2", CALLS) is None
    grows = "def f(x, seen=[4, 4]):\n    seen.append(x)\n    return len(seen) + 2"
    assert [refusal(grows, CALLS[:1]) for _ in range(3)] == [None] * 3


def test_many_functions_share_one_process():
    refusal("def f(x): return x + 2", CALLS)
    process = client._kept.running._process.pid
    for n in range(50):
        assert refusal(f"def f(x): y = {n}; return x + 2", CALLS) is None
    assert client._kept.running._process.pid == process


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_the_process_has_no_environment_and_limits():
    refusal("def f(x): return x + 2", CALLS)
    place = f"/proc/{client._kept.running._process.pid}"
    with open(f"{place}/environ", "rb") as file:
        assert not {b"HOME", b"PATH", b"PYTHONPATH"} & {
            entry.split(b"=")[0] for entry in file.read().split(b"\0")
        }
    with open(f"{place}/limits") as file:
        limits = {line[:26].strip(): line[26:].split()[0] for line in file}
    assert limits["Max file size"] == limits["Max processes"] == limits["Max open files"] == "0"
    assert int(limits["Max address space"]) < 1 << 30


def test_a_process_that_is_killed_is_replaced():
    refusal("def f(x): return x + 2", CALLS)
    os.kill(client._kept.running._process.pid, 9)
    client._kept.running._process.wait()
    assert refusal("def f(x): return x + 2", CALLS) is None


def test_a_process_that_does_not_start_is_told(monkeypatch):
    client._kept.running.end()
    monkeypatch.setattr(client, "_PROGRAM", "import sys; sys.exit(3)")
    with pytest.raises(RunError, match=r"runs code did not start \(exit status 3\)"):
        refusal("def f(x): return x + 2", CALLS)
    monkeypatch.undo()
    assert refusal("def f(x): return x + 2", CALLS) is None
