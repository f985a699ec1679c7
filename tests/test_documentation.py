"""What the pages tell a reader to open, run or import is there."""

import importlib
import re

import pytest
from scripts import ROOT

FOLDERS = ("experiments", "configs", "tests")
PAGES = [
    ROOT / "README.md",
    *sorted(page for top in FOLDERS for page in (ROOT / top).rglob("*.md")),
]
CODE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in headings}


@each_page
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", path.read_text())):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@each_page
def test_commands_name_scripts_and_presets_that_exist(path):
    text = path.read_text()
    for script in re.findall(r"experiments/(\w+)\.py", text):
        assert (ROOT / "experiments" / f"{script}.py").exists(), script
    for script, preset in re.findall(r"(\w+)\.py --preset ([\w.-]*\w)", text):
        if preset != "NAME":
            assert (ROOT / "configs" / f"{script}_{preset}.yaml").exists(), f"{script} {preset}"


@each_page
def test_examples_import_what_there_is(path):
    for language, code in CODE.findall(path.read_text()):
        if language == "python":
            for module, names in re.findall(r"^from (\S+) import (.*)$", code, re.MULTILINE):
                found = importlib.import_module(module)
                for name in names.strip("()").split(", "):
                    assert hasattr(found, name.split(" as ")[0]), f"{module} has no {name}"


def test_the_readme_is_short_and_its_commands_are_marked():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 200
    for name in ("main", "tests"):  # .ci/run runs what follows these markers
        assert f"<!-- command: {name} -->\n```bash\npython3 -m venv .venv && " in text


def test_every_script_is_in_the_index():
    index = (ROOT / "experiments" / "README.md").read_text()
    for script in (ROOT / "experiments").glob("*.py"):
        assert f"`{script.name}" in index, script.name


@each_page
def test_named_paths_exist(path):
    roots = "subliminal_jax|experiments|configs|tests"
    text = CODE.sub("", path.read_text())
    for named in re.findall(rf"`((?:{roots})/[\w./-]+)`", text):
        if "NAME" not in named:
            assert (ROOT / named).exists(), named


PACKAGES = "audit|data|execution|language|mnist|models|process|report|runs|theory"
MODULES = [*PAGES, *sorted((ROOT / "subliminal_jax").rglob("*.py"))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_modules_and_what_is_in_them_exist(path):
    text = path.read_text()
    for named in re.findall(rf"(?<!`)`(?:subliminal_jax\.)?((?:{PACKAGES})(?:\.\w+)+)`", text):
        assert named == "report.html" or is_there(f"subliminal_jax.{named}"), named


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    module, _, last = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ImportError:
        return bool(module) and is_there(module) and hasattr(importlib.import_module(module), last)
    return True


def test_the_file_tree_shows_what_there_is():
    readme = (ROOT / "README.md").read_text()
    tree = next(code for _, code in CODE.findall(readme) if code.startswith("experiments/"))
    above = ROOT
    for line in tree.splitlines():
        if not line.startswith(" "):
            above = ROOT / line.split("/")[0]
        shown = line.split("  ")[1] if line[0] == " " else line.split()[0]
        for name in re.findall(r"[\w.]+/|README\.md", shown):
            assert (above / name).exists() or (ROOT / name).exists(), name
