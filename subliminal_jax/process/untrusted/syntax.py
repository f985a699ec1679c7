"""The part of Python that an untrusted function may use.

It has functions, loops and comprehensions over plain values. It has no import, no class, no
exception, no name with two underscores, and no attribute but calls of the listed methods; so a
function cannot reach a file, the network or the interpreter.
"""

import ast

NODES = (
    *(ast.FunctionDef, ast.Lambda, ast.arguments, ast.arg, ast.Return),
    *(ast.Assign, ast.AugAssign, ast.AnnAssign, ast.NamedExpr, ast.Delete),
    *(ast.For, ast.While, ast.If, ast.IfExp, ast.Pass, ast.Break, ast.Continue),
    *(ast.Expr, ast.Assert, ast.Name, ast.Constant, ast.Starred, ast.expr_context),
    *(ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare),
    *(ast.boolop, ast.operator, ast.unaryop, ast.cmpop),
    *(ast.List, ast.Tuple, ast.Dict, ast.Set, ast.Subscript, ast.Slice),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.comprehension),
    *(ast.Call, ast.keyword, ast.JoinedStr, ast.FormattedValue),
)
BUILTINS = (
    *("abs", "all", "any", "bool", "chr", "dict", "divmod", "enumerate", "filter", "float"),
    *("int", "len", "list", "map", "max", "min", "ord", "pow", "range", "reversed", "round"),
    *("set", "sorted", "str", "sum", "tuple", "zip"),
)
"""Built-in functions that may be called; no others exist for the function."""
METHODS = frozenset(
    (
        *("capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha"),
        *("isdigit", "islower", "isspace", "isupper", "join", "lower", "lstrip", "replace"),
        *("rfind", "rstrip", "split", "startswith", "strip", "swapcase", "title", "upper"),
        *("append", "clear", "copy", "extend", "insert", "pop", "remove", "reverse", "sort"),
        *("get", "items", "keys", "setdefault", "update", "values"),
        *("add", "difference", "discard", "intersection", "issubset", "union"),
    )
)
"""Methods of strings, lists, dicts and sets that may be called."""
LONGEST = 5000
"""Characters of a source, at most."""


def parsed(source: str) -> ast.Module | str:
    """The parsed source, or why it is refused: one of a few reasons."""
    if len(source) > LONGEST:
        return "too long"
    if not source.isascii() or "\\x" in source or "\\u" in source or "\\N" in source:
        return "not plain text"  # such letters could spell a word that no filter finds
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "malformed"
    return _fault(tree) or tree


def _fault(tree: ast.Module) -> str | None:
    """What is wrong with a source that parses, if anything."""
    bound, called, methods = set(BUILTINS), set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)):
                called.add(name)
            case ast.Call(func=ast.Attribute(attr=name) as method) if name in METHODS:
                methods.add(method)
            case ast.FunctionDef(name=name, decorator_list=[]) | ast.arg(arg=name):
                bound.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                bound.add(name)
            case ast.FunctionDef():
                return "syntax not allowed: decorator"
    for node in ast.walk(tree):
        match node:
            case ast.Attribute():
                if node not in methods:
                    return "attribute not allowed"
            case ast.Module() | ast.MatMult():
                pass
            case _ if not isinstance(node, NODES):
                return f"syntax not allowed: {type(node).__name__}"
        names = [getattr(node, field, None) for field in ("id", "arg", "name")]
        if any("__" in name for name in names if isinstance(name, str)):
            return "name not allowed"
    if called - bound:
        return "call not allowed"
    whole = all(isinstance(one, ast.FunctionDef | ast.Assign) for one in tree.body)
    return None if whole else "not only functions"
