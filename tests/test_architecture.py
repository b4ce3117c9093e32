"""The layers of the package, as far as a machine can check them."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from pathlib import Path

import pytest

import pytest_channelstub
from pytest_channelstub import apiproxy_errors, channel

PACKAGE = Path(pytest_channelstub.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
NAMES = {
    ".".join(("pytest_channelstub", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in MODULES
}
CORE = ("_tokens.py", "apiproxy_errors.py", "_record/", "_service/")
# What the core works without: a test runner, HTTP and an SDK.
FOREIGN = {"_pytest", "google", "http", "pytest", "socketserver", "urllib.request", "werkzeug"}


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def walk_at_runtime(node):
    """The nodes below a node, without what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from walk_at_runtime(child)


def imported_names(path):
    """The dotted names that a module imports, anywhere in its code."""
    for node in walk_at_runtime(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(path):
    """The modules of this package that a module imports."""
    for name in imported_names(path):
        module = name if name in NAMES else name.rpartition(".")[0]
        if module in NAMES:
            yield module


def layers():
    """The rooms in each row of CONTRIBUTING.md's table, from top to bottom."""
    rows = re.findall(r"^\| (`.+?) \|", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.findall(r"`(.+?)`", row) for row in rows]


def files_of(room):
    return sorted((PACKAGE / room).rglob("*.py")) if room.endswith("/") else [PACKAGE / room]


def test_every_module_belongs_to_one_layer():
    assert (
        sorted(file for rooms in layers() for room in rooms for file in files_of(room)) == MODULES
    )


def test_a_module_imports_from_its_own_room_or_from_lower_layers():
    place = {
        file: (depth, room)
        for depth, rooms in enumerate(layers())
        for room in rooms
        for file in files_of(room)
    }
    wrong = []
    for name, path in NAMES.items():
        depth, room = place[path]
        for imported in imported_modules(path):
            other_depth, other_room = place[NAMES[imported]]
            if room != other_room and other_depth <= depth:
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    above = {name: {*imported_modules(path)} - {name} for name, path in NAMES.items()}
    while above:
        free = {name for name, needs in above.items() if not needs & {*above}}
        assert free, f"these import each other in a circle: {sorted(above)}"
        above = {name: needs for name, needs in above.items() if name not in free}


def test_the_core_imports_no_pytest_no_http_and_no_sdk():
    assert [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for room in CORE
        for path in files_of(room)
        for name in imported_names(path)
        if any(f"{name}.".startswith(f"{foreign}.") for foreign in FOREIGN)
    ] == []


def test_locks_are_taken_by_with_alone():
    # An interrupt between acquire() and try: would leave the lock held, and the end of the
    # test waiting for it; `with` has no such gap.
    assert [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute)
        and node.attr in ("acquire", "release")
        and "lock" in ast.unparse(node.value)
    ] == []


@pytest.mark.parametrize("name", ["", ".apiproxy_errors", ".web"])
def test_dir_lists_the_public_names_and_nothing_else(name):
    module = importlib.import_module(f"pytest_channelstub{name}")

    assert dir(module) == sorted(module.__all__)
    assert all(hasattr(module, public) for public in module.__all__)


@pytest.mark.parametrize("name", ["", ".apiproxy_errors", ".web"])
def test_a_name_that_is_missing_is_an_error_that_names_the_module(name):
    module = importlib.import_module(f"pytest_channelstub{name}")

    with pytest.raises(AttributeError) as raised:
        _ = module.nothing

    assert str(raised.value) == f"module '{module.__name__}' has no attribute 'nothing'"


def test_every_public_name_has_a_docstring_with_an_example():
    modules = (apiproxy_errors, channel)
    assert [
        name
        for name in pytest_channelstub.__all__
        if (value := getattr(pytest_channelstub, name)) not in modules
        and "Example:" not in (inspect.getdoc(value) or "")
    ] == []
