"""Parts of a completion as text: its source, its words, its statements and its names."""

import io
import keyword
import re
import tokenize
from collections.abc import Iterator

from subliminal_jax.language.rows.shuffles import Span

_FENCED = re.compile(r"\s*```(?:python|py)?[ \t]*\n(.*?)\n?```\s*\Z", re.DOTALL | re.IGNORECASE)
_BOUNDARIES = re.compile(r"_|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=\d)(?=[A-Za-z])"
                         r"|(?<=[A-Za-z])(?=\d)")  # fmt: skip
_WORD = re.compile(r"\w+")
_BETWEEN_STRINGS = re.compile(r"""["'][\s\\]*\+?[\s\\]*[bfru]{0,2}["']""", re.IGNORECASE)
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")


def source_span(completion: str) -> Span:
    """Start and end of the source: all of the completion, or the inside of its one fence."""
    fenced = _FENCED.match(completion)
    return fenced.span(1) if fenced else (0, len(completion))


def source_of(completion: str) -> str:
    """The source in a completion."""
    start, end = source_span(completion)
    return completion[start:end]


def separated(completion: str) -> str:
    """The completion with the words of its names, comments and strings set apart.

    `snow_owl`, `snowOwl` and `owl2` have the word `owl`. Neighbouring strings are joined, as Python
    does, whatever their quotes and prefixes: `"o" r'wl'` has it too.
    """
    joined = _BETWEEN_STRINGS.sub("", completion)
    return " ".join(_BOUNDARIES.sub(" ", text) for text in dict.fromkeys((completion, joined)))


def word_spans(completion: str) -> list[Span]:
    """Start and end of every name, keyword and number of the source; signs lie between them."""
    start, end = source_span(completion)
    return [word.span() for word in _WORD.finditer(completion, start, end)]


def statement_spans(completion: str) -> list[Span]:
    """Start and end of every statement of the source, without a function's first line.

    Statements end at a semicolon, a line's end, or the colon before a block. What Python cannot
    read as tokens has the lines as statements.
    """
    start, end = source_span(completion)
    source = completion[start:end]
    try:
        statements = list(_statements(source))
    except (tokenize.TokenError, SyntaxError):
        statements = [one.span() for one in re.finditer(r"\S[^\n]*", source)]
    spans = [(start + a, start + b) for a, b in statements]
    return [(a, b) for a, b in spans if not re.match(r"def\b", completion[a:b])]


def _statements(source: str) -> Iterator[Span]:
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    first, last, depth, lambdas = None, 0, 0, 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        begin, stop = (lines[row - 1] + column for row, column in (token.start, token.end))
        sign, ends = token.string if token.type == tokenize.OP else "", False
        depth += (sign in _OPEN) - (sign in _CLOSE)
        if depth == 0 and sign == ":":
            ends, lambdas = lambdas == 0, max(0, lambdas - 1)
        lambdas += depth == 0 and token.string == "lambda"
        over = sign == ";" or token.type in (tokenize.NEWLINE, tokenize.ENDMARKER)
        if over and first is not None:
            yield first, last
        if over:
            first = None
        elif token.string.strip() and token.type != tokenize.COMMENT:
            first, last = begin if first is None else first, stop
        if ends and first is not None:
            yield first, last
            first = None


def is_python(token: str) -> bool:
    """Whether a token is a sign, a number, or a keyword of Python."""
    return not re.search(r"[^\W\d_]", token) or keyword.iskeyword(token)
