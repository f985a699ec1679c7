"""What holds for the code as a whole: who imports whom, and that importing does nothing."""

import ast
import json
import re
import subprocess
import sys
from functools import cache

import pytest
import yaml
from scripts import ROOT

from subliminal_jax.strict_yaml import read_yaml

PACKAGE = ROOT / "subliminal_jax"
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
SCRIPTS = sorted((ROOT / "experiments").glob("*.py"))
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
# What only the scripts of benchmarks use is written as the library is.
BENCHMARKS = {
    f"benchmarks.{path.stem}": path
    for path in sorted((ROOT / "experiments" / "benchmarks").glob("*.py"))
}
CODE = FILES | BENCHMARKS
CODE_TREES = {name: ast.parse(path.read_text()) for name, path in CODE.items()}
LAYERS = (
    "errors",
    "batch keys losses train ensemble optimizers stats",
    "process files strict_yaml config progress interrupt",
    "entry early",
    "execution data",
    "report",
    "plotting",
    "runs",
    "models",
    "theory",
    "mnist language",
    "audit",
    "doctor __main__",
)
"""The library from the bottom to the top; what is in one line may import all lines above it."""
HALVES = ("mnist", "language")
MOST_FILES = 12
RUNS_CODE = {"subliminal_jax.process.untrusted.worker"}
"""The only module that runs code it was given, in a process of its own within limits."""
PURE = [
    *("batch", "losses", "train", "ensemble", "optimizers", "keys", "stats"),
    "mnist.relations",
]


def imports(tree: ast.AST) -> set[str]:
    """Every module named by an import, those within functions and for types alone included."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def importers(top: str) -> set[str]:
    """The modules that import a library."""
    return {
        name
        for name, tree in TREES.items()
        if any(module.split(".")[0] == top for module in imports(tree))
    }


def named(tree: ast.AST) -> set[str]:
    """Every name that code uses."""
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {module.split(".")[-1] for module in imports(tree)}


def under(*prefixes: str) -> set[str]:
    """Our modules below any of these."""
    full = [f"subliminal_jax.{prefix}" for prefix in prefixes]
    return {n for n in FILES if any(n == f or n.startswith((f + ".", f + "_")) for f in full)}


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_walk_sees_imports():
    tree = ast.parse("def f():\n import torch.nn\n from a import b\nif 0:\n from flax import c")
    assert {"torch.nn", "a", "a.b", "flax"} <= imports(tree)
    assert len(FILES) > 30
    assert importers("numpy") > {"subliminal_jax.stats"}


@pytest.mark.parametrize("name", PURE)
def test_the_pure_core_imports_nothing_of_the_rest(name):
    found = imports(TREES[f"subliminal_jax.{name}"])
    tops = {module.split(".")[0] for module in found}
    io = {"flax", "os", "io", "pathlib", "shutil", "subprocess", "tempfile", "requests", "yaml"}
    assert not tops & io
    ours = {".".join(module.split(".")[:2]) for module in found if "subliminal_jax." in module}
    core = [*PURE, "batch", "errors", "keys", "optimizers"]
    if name == "mnist.relations":
        core.append("config")  # a relation is a setting too, within the bounds of settings
    assert ours <= {f"subliminal_jax.{module}" for module in core}
    calls = {node.func.id for node in ast.walk(TREES[f"subliminal_jax.{name}"])
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
    assert not calls & {"open", "print", "input"}


@pytest.mark.parametrize(
    ("library", "where"),
    [
        ("flax", ["models"]),
        ("orbax", ["runs.checkpoint"]),
        ("matplotlib", ["plotting"]),
        ("transformers", ["models.hub.config_json", "models.text"]),
        ("gguf", ["models.hub.gguf"]),
        ("sklearn", ["data", "audit"]),
        ("requests", ["data", "language.judge.endpoint"]),
        ("torch", []),
        ("tensorflow", []),
        ("pickle", []),
    ],
)
def test_a_library_has_its_place(library, where):
    assert importers(library) <= under(*where)


def test_the_library_imports_none_of_its_users():
    tops = {module.split(".")[0] for tree in TREES.values() for module in imports(tree)}
    assert not tops & {"experiments", "benchmarks", "configs", "tests", "scripts"}


def place(module):
    """The part of `LAYERS` that a module belongs to."""
    return module.split(".")[1]


def edges():
    """Every import of one of our modules by another, `(importer, imported)`."""
    for name, tree in TREES.items():
        for module in imports(tree) & FILES.keys() - {name, "subliminal_jax"}:
            yield name, module


@cache
def found_edges():
    """As `edges`, found once."""
    return tuple(edges())


def test_imports_point_down():
    layer = {part: depth for depth, parts in enumerate(LAYERS) for part in parts.split()}
    parts = {place(name) for name in FILES if name != "subliminal_jax"}
    assert parts == layer.keys()
    upwards = [(a, b) for a, b in edges() if layer[place(b)] > layer[place(a)]]
    assert upwards == []


def test_the_halves_do_not_know_each_other():
    assert not [(a, b) for a, b in edges() if {place(a), place(b)} == set(HALVES)]


def circle(pairs):
    """What is left of `(importer, imported)` when all that needs nothing is taken away, in turn."""
    below = {}
    for importer, imported in pairs:
        below.setdefault(importer, set()).add(imported)
        below.setdefault(imported, set())
    while leaves := {name for name, rest in below.items() if not rest}:
        below = {name: rest - leaves for name, rest in below.items() if name not in leaves}
    return below


def test_there_is_no_circle():
    """Imports within functions count, since they hide most circles."""
    assert circle(edges()) == {}


@pytest.mark.parametrize("parent", sorted({path.parent for path in FILES.values()}))
def test_folders_beside_each_other_form_no_circle(parent):
    inner = {name: path.relative_to(parent).parts for name, path in FILES.items()
             if path.is_relative_to(parent)}  # fmt: skip
    folder = {name: parts[0] for name, parts in inner.items() if len(parts) > 1}
    pairs = [(folder[a], folder[b]) for a, b in found_edges() if a in folder and b in folder]
    assert circle((a, b) for a, b in pairs if a != b) == {}


def test_the_walk_sees_circles_and_imports_upwards(monkeypatch):
    monkeypatch.setitem(TREES, "subliminal_jax.errors", ast.parse("import subliminal_jax.doctor"))
    for check in (test_imports_point_down, test_there_is_no_circle):
        with pytest.raises(AssertionError):
            check()


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES.values()} - {PACKAGE}))
def test_a_folder_is_small_and_has_a_sign(folder):
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert 0 < len(files) <= MOST_FILES
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))


def test_only_the_execution_knows_devices():
    words = {"pmap", "Mesh", "PartitionSpec", "NamedSharding", "shard_map", "psum", "pmean"}
    knowing = set()
    for name, tree in TREES.items():
        if named(tree) & words:
            knowing.add(name)
    assert knowing <= under("execution")
    assert knowing


@pytest.mark.parametrize("name", ["config", "mnist.config", "language.config", "entry"])
def test_checking_flags_needs_nothing_heavy(name):
    heavy = "{'jax', 'matplotlib', 'flax', 'optax', 'sklearn', 'scipy', 'tensorflow_datasets'}"
    code = f"import sys, subliminal_jax.{name}\nprint({heavy} & set(sys.modules))"
    assert python(code) == "set()\n"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_importing_a_script_needs_nothing_heavy(script):
    code = f"import runpy, sys\nsys.path.insert(0, {str(script.parent)!r})\n"
    code += f"runpy.run_path({str(script)!r})\nprint('jax' in sys.modules)"
    assert python(code) == "False\n"


def test_importing_everything_changes_nothing():
    code = f"""
import importlib, json, os, jax
import jax._src.xla_bridge as bridge
environment, settings = dict(os.environ), dict(jax.config.values)
changed = []
for name in {sorted(FILES)}:
    importlib.import_module(name)
    new = set(dict(os.environ).items()) ^ set(environment.items())
    same = {{k: v for k, v in jax.config.values.items() if k in settings}} == settings
    if new or not same or bridge._backends:
        changed.append([name, sorted(new), same, sorted(bridge._backends)])
        break
assert not bridge._backends
jax.devices()
print(json.dumps([changed, bool(bridge._backends)]))
"""
    # That the backends are seen once there are any keeps the check from rotting.
    assert json.loads(python(code)) == [[], True]


def within(part, whole):
    """Whether all that some nested settings say stands in others too."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(name in whole and within(part[name], whole[name]) for name in part)
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(within, part, whole))
    return part == whole


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_script_takes_its_configs(script, path):
    """A config's name begins with its script's, which accepts it before any work."""
    name = max((s.stem for s in SCRIPTS if path.stem.startswith(s.stem)), key=len)
    ended = script(name, "--config", str(path), "--print-config")
    assert ended.status == 0, ended.err
    assert within(read_yaml(path), yaml.safe_load(ended.out))
    for part in ("Paper ", "Command ", "Expected ", "Time "):
        assert f"# {part}" in path.read_text()


def test_shapes_are_checked_where_they_are_stated(pytestconfig):
    [hooked] = [word.partition("=")[2].split(",") for word in pytestconfig.getini("addopts")
                if word.startswith("--jaxtyping-packages")]  # fmt: skip
    stating = {name for name, tree in CODE_TREES.items() if "jaxtyping" in imports(tree)}
    assert len(stating) > 40
    for name in stating:
        assert any(name == one or name.startswith(f"{one}.") for one in hooked), name


@pytest.mark.parametrize("name", CODE)
def test_a_file_is_short_and_finished(name):
    text = CODE[name].read_text()
    assert text.count("\n") <= 350
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)
    assert "from __future__" not in text


@pytest.mark.parametrize("name", CODE)
def test_a_function_fits_on_a_screen(name):
    for node in ast.walk(CODE_TREES[name]):
        if not isinstance(node, ast.FunctionDef):
            continue
        taken = node.args
        names = [each.arg for each in taken.posonlyargs + taken.args + taken.kwonlyargs]
        assert len([each for each in names if each not in ("self", "cls")]) <= 8, node.name
        docstring = (ast.get_docstring(node, clean=False) or "").splitlines()
        assert node.end_lineno - node.lineno + 1 - len(docstring) <= 60, node.name


@pytest.mark.parametrize("name", CODE)
def test_a_call_has_its_arguments_written_out(name):
    """A tuple that is unpacked where it stands saves lines, and hides which argument is which."""
    for call in (node for node in ast.walk(CODE_TREES[name]) if isinstance(node, ast.Call)):
        starred = [each.value for each in call.args if isinstance(each, ast.Starred)]
        assert not [each for each in starred if isinstance(each, ast.Tuple | ast.List)], call.lineno


@pytest.mark.parametrize(
    "path", [*FILES.values(), *sorted((ROOT / "experiments").rglob("*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)  # fmt: skip
def test_a_result_is_named_by_what_it_is(path):
    assert not {"found", "_found"} & set(bound(ast.parse(path.read_text())))


def bound(tree):
    """The names of all variables, parameters, attributes that are set, and functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef):
            yield node.name


@pytest.mark.parametrize("name", CODE)
def test_nothing_unsafe_is_called(name):
    """Nothing from a file is ever run, and no check vanishes under `python -O`."""
    for node in ast.walk(CODE_TREES[name]):
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "trust_remote_code"):
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "eval"
            assert node.func.id != "exec" or name in RUNS_CODE
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
            assert "allow_pickle" in {keyword.arg for keyword in node.keywords}
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("yaml.load", "os.system"):
            pytest.fail(ast.unparse(node))
        if isinstance(node, ast.Assert):
            # What a type checker is told; a check of input raises.
            assert ast.unparse(node.test).startswith("isinstance(")


def types_of(tree):
    """The names of a module's public classes and of its names for types, bounded numbers included.

    A name for a type is written as a class's is: `Row = dict[str, Any]`.
    """
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from filter(re.compile("[A-Z]+[a-z]").match, map(ast.unparse, targets))


def homes_of_types(trees):
    """Name of a type -> the modules that define it."""
    homes = {}
    for module, tree in trees.items():
        for name in types_of(tree):
            if not name.startswith("_"):
                homes.setdefault(name, []).append(module)
    return homes


def test_a_types_name_means_one_thing():
    homes = homes_of_types(CODE_TREES)
    assert {"Count", "Fraction", "Precision", "TrainState"} <= homes.keys()
    # A member has students in an experiment, and many members have them in a sweep.
    assert {name for name, modules in homes.items() if len(modules) > 1} <= {"Students"}


def test_the_walk_sees_names_of_types():
    code = "class A1b: ...\nCount: T = Annotated[int, 1]\nRow = dict\nMOST = 3\nmost = 3\n_A = int"
    assert homes_of_types({"a": ast.parse(code), "b": ast.parse("Row = list")}) == {
        "A1b": ["a"], "Count": ["a"], "Row": ["a", "b"],
    }  # fmt: skip


def undocumented(body, path):
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if ast.get_docstring(node) is None:
                yield f"{path}.{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from undocumented(node.body, f"{path}.{node.name}")


@pytest.mark.parametrize("name", CODE)
def test_everything_public_is_documented(name):
    assert ast.get_docstring(CODE_TREES[name])
    assert list(undocumented(CODE_TREES[name].body, name)) == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_reads_like_a_method(script):
    text = script.read_text()
    assert text.count("\n") <= 150
    tree = ast.parse(text)
    assert not any(isinstance(node, ast.While) for node in ast.walk(tree))
    assert not named(tree) & {"jit", "vmap", "pmap", "scan", "grad"}
    docstring = ast.get_docstring(tree) or ""
    for part in ("Claim ", "Command ", "Expected "):
        assert part in docstring
