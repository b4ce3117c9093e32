"""The plan of the house, as far as a machine can see to it."""

from __future__ import annotations

import ast
import inspect
import re
import statistics
from pathlib import Path

import pytest

import pytest_channelstub
import pytest_channelstub.web

PACKAGE = Path(pytest_channelstub.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
NAMES = {
    ".".join(("pytest_channelstub", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in MODULES
}


def imports_of(name):
    """Our modules that a module imports anywhere in its code, but for the type checker."""
    tree = ast.parse(NAMES[name].read_text(encoding="utf-8"))
    for node in walk_at_runtime(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in NAMES)
        elif isinstance(node, ast.ImportFrom) and node.module in NAMES:
            within = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from within & {*NAMES} or {node.module}


def walk_at_runtime(node):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from walk_at_runtime(child)


def functions_of(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            told = ast.get_docstring(node) is not None
            first = node.body[1] if told and len(node.body) > 1 else node.body[0]
            yield node.name, node.end_lineno - first.lineno + 1


def rooms():
    """The table of rooms: the files that each row names, top to bottom; a folder is its files."""
    rows = re.findall(r"^\| (`.+?`) \|", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE)
    for row in rows:
        yield [file for name in re.findall(r"`(.+?)`", row) for file in files_of(PACKAGE / name)]


def files_of(path):
    return sorted(path.glob("*.py")) if path.is_dir() else [path]


def test_every_module_has_one_room():
    assert sorted(file for row in rooms() for file in row) == MODULES


def test_a_module_imports_only_from_its_own_room_or_those_below():
    room_of = {file: number for number, row in enumerate(rooms()) for file in row}
    upward = [
        f"{name} imports {imported}"
        for name in NAMES
        for imported in imports_of(name)
        if room_of[NAMES[imported]] < room_of[NAMES[name]]
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle():
    above = {name: {*imports_of(name)} - {name} for name in NAMES}
    while above:
        free = {name for name, needs in above.items() if not needs & {*above}}
        assert free, f"these import each other in a circle: {sorted(above)}"
        above = {name: needs for name, needs in above.items() if name not in free}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_has_fewer_than_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 400


def test_functions_are_short():
    lengths = {
        f"{path.relative_to(PACKAGE)}:{name}": length
        for path in MODULES
        for name, length in functions_of(path)
    }
    assert statistics.median(lengths.values()) < 10
    assert {name: length for name, length in lengths.items() if length >= 50} == {}


def test_locks_are_taken_by_with_alone():
    # An interrupt between acquire() and try: would leave the lock held, and the end of the
    # test waiting for it; `with` has no such gap.
    assert [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in ("acquire", "release")
        and "lock" in ast.unparse(node.value)
    ] == []


def test_every_public_name_has_a_docstring_with_an_example():
    missing = [
        name
        for name in pytest_channelstub.__all__
        if not inspect.ismodule(value := getattr(pytest_channelstub, name))
        and "Example:" not in (value.__doc__ or "")
    ]
    assert missing == []


def test_every_public_name_can_be_listed_and_no_other_is_there():
    assert {*pytest_channelstub.__all__} <= {*dir(pytest_channelstub)}
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = pytest_channelstub.nothing


def test_a_name_that_is_not_there_is_told_with_the_package_it_was_asked_of():
    expected = r"^module 'pytest_channelstub\.web' has no attribute 'ChannelServers'$"
    with pytest.raises(AttributeError, match=expected):
        _ = pytest_channelstub.web.ChannelServers
