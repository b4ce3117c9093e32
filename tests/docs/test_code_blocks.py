"""All code in the README and the documentation runs.

- A `python` block is a test file. Its tests pass, as do those of named test files before it under
  its heading. With `<!-- run: fails -->` on the line before it, all of them fail; with
  `<!-- run: passes, needs NAME -->` it is skipped where the module or browser NAME, or one of
  several, is not installed.
- A `python` block whose first line is a file's name, such as `# conftest.py`, is that file;
  an `ini` block is the pytest.ini, and a `toml` block the pyproject.toml. Under one heading,
  such files stay for the blocks that follow.
- In a `console` block, `$ pytest ...` runs what stands under its heading so far, and each line
  that follows is found in the output, in this order; a line `...` stands for any lines.
  Other commands are for the reader.
- A `pycon` block is a doctest.
- Blocks of other languages are only shown.

Sybil and pytest-examples run the code of a block in their own test. Ours are whole files, which
pytester runs with the conftest.py and the pytest.ini that stand before them, and the outputs of
such runs. Sybil would find the blocks, which `fences` does in fifteen lines, and add a dependency.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARKER = re.compile(r"<!-- run: (?P<outcome>passes|fails)(, needs (?P<needs>[\w. ]+))? -->")
FILE_NAME = re.compile(r"# ([\w/]+\.py)$")
DURATION = re.compile(r" in \d+\.\d+s\b")
MOST_README_LINES = 250
# pytest-asyncio leaves an event loop open, for which a later test of this process would be
# blamed; pytest-playwright allows no pytest within pytest.
APART = {"pytest_asyncio", "pytest_playwright"}
# Plugins that such a run would spend half of its time on.
UNNEEDED = ("-p", "no:anyio", "-p", "no:hypothesispytest")
# Other runs load this plugin, and of others those that their block needs.
OURS = "pytest_channelstub.plugin"
PLUGINS = {"pytest_freezer": "pytest_freezer", "time_machine": "time_machine"}
BROWSERS = {"chromium", "chromedriver"}
PLAIN_TEST = "def test_the_settings_are_taken(channel_stub): pass\n"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block that runs, with the files that stand before it under its heading."""

    name: str
    language: str
    code: str
    marker: str
    files: dict[str, str] = field(default_factory=dict)

    @property
    def needs(self):
        """The modules and programs without which it is skipped."""
        marker = MARKER.search(self.marker)
        return ((marker and marker["needs"]) or "").split()

    @property
    def outcome(self):
        marker = MARKER.search(self.marker)
        return "failed" if marker and marker["outcome"] == "fails" else "passed"

    @property
    def file_name(self):
        if self.language in ("ini", "toml"):
            return {"ini": "pytest.ini", "toml": "pyproject.toml"}[self.language]
        named = FILE_NAME.match(self.code.partition("\n")[0])
        return named[1] if named else "test_example.py"


def fences(text):
    """Each fenced block: line, heading above it, line before it, language, code."""
    heading, before, opened = "", "", None
    for number, line in enumerate(text.splitlines(), 1):
        if opened is None and line.startswith("```"):
            opened = (number, heading, before, line[3:].strip(), [])
        elif opened is not None and line.startswith("```"):
            yield *opened[:4], "\n".join(opened[4]) + "\n"
            opened = None
        elif opened is not None:
            opened[4].append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")
        before = line if opened is None and line else before


def blocks(page):
    files, under = {}, None
    for number, heading, before, language, code in fences(page.read_text("utf-8")):
        if heading != under:
            files, under = {}, heading
        name = f"{page.stem}: {heading}, line {number}"
        block = Block(name, language, code, before, dict(files))
        if language in ("python", "ini", "toml"):
            files[block.file_name] = code
        if language in ("python", "ini", "toml", "console", "pycon"):
            yield block


BLOCKS = [block for page in PAGES for block in blocks(page)]


def of(*languages):
    chosen = [
        pytest.param(
            block,
            id=block.name,
            marks=[pytest.mark.browser] * (not BROWSERS.isdisjoint(block.needs)),
        )
        for block in BLOCKS
        if block.language in languages
    ]
    return pytest.mark.parametrize("block", chosen)


@pytest.fixture
def lay(pytester, monkeypatch):
    """A function that lays a block's files, and those before it, into the test's directory."""
    monkeypatch.delenv("CI", raising=False)  # there pytest says more than to a reader

    def lay(files):
        for name, code in files.items():
            path = pytester.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code, "utf-8")

    return lay


@pytest.fixture
def chromium_on_path(block, chromium, tmp_path, monkeypatch):
    """Have a page's `which("chromium")` find the one that all tests use."""
    if chromium is not None and "chromium" in block.needs:
        (tmp_path / "chromium").symlink_to(chromium)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def run(block, pytester, pytestconfig, monkeypatch, chromium_on_path):
    """A function that runs pytest there, its asserts as they are in this run."""
    asserts = f"--assert={pytestconfig.getoption('assertmode')}"
    if not APART.isdisjoint(block.needs):
        settings = (*UNNEEDED, "-o", "asyncio_default_fixture_loop_scope=function", asserts)
        return lambda *arguments: pytester.runpytest_subprocess(*settings, *arguments)
    plugins = [OURS, *(PLUGINS[needed] for needed in block.needs if needed in PLUGINS)]
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", ",".join(plugins))
    return lambda *arguments: pytester.runpytest_inprocess(asserts, *arguments)


def skip_without(name):
    """Skip where there is no module, or no browser's program, of that name."""
    if name not in BROWSERS:
        pytest.importorskip(name, reason=f"{name} is not installed")
    elif shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")


@of("python")
def test_a_python_block_passes_or_fails_as_its_marker_says(block, lay, run):
    for needed in block.needs:
        skip_without(needed)
    name = block.file_name
    lay({**block.files, name: block.code})
    if not Path(name).name.startswith("test_"):
        compile(block.code, name, "exec")
        return
    outcomes = run().parseoutcomes()
    assert outcomes.keys() == {block.outcome}, f"only {block.outcome} tests were expected"


@of("pycon")
def test_a_session_prints_what_it_shows(block):
    session = doctest.DocTestParser().get_doctest(block.code, {}, block.name, None, 0)

    assert doctest.DebugRunner().run(session).failed == 0


@of("ini", "toml")
def test_settings_are_taken(block, lay, run):
    lay({block.file_name: block.code, "test_settings.py": PLAIN_TEST})
    run("--strict-config", "--strict-markers").assert_outcomes(passed=1)


def commands(block):
    """Each command of a console block, with the output that is shown for it."""
    found = []
    for line in block.code.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
    return found


@of("console")
def test_a_console_block_shows_what_pytest_says(block, lay, run):
    lay(block.files)
    for command, shown in commands(block):
        program, *arguments = shlex.split(command)
        if program != "pytest":
            continue
        output = iter(plain(run("--assert=rewrite", *arguments).outlines))  # as a reader runs it
        for line in plain(shown):
            assert line == "..." or line in output, (
                f"not in the output, or not in this place: {line}"
            )


def plain(lines):
    return [DURATION.sub(" in ...s", line.rstrip()).strip("=").strip() for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_marker_is_understood(page):
    text = page.read_text("utf-8")
    assert text.count("<!-- run:") == len(MARKER.findall(text))


def test_the_readme_is_short():
    assert len(PAGES[0].read_text("utf-8").splitlines()) <= MOST_README_LINES


def test_the_readmes_shell_commands_are_those_of_a_fresh_clone():
    commands = [block for block in fences(PAGES[0].read_text("utf-8")) if block[3] == "sh"]

    assert ["tests/examples" in commands[0][4], ".[test]" in commands[1][4]] == [True, True]
    assert len(commands) == 2
