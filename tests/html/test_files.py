"""The pages of --channelstub-timeline as files, and the index that leads to them."""

from __future__ import annotations

import re
import string

import pytest

from pytest_channelstub import ChannelServiceStub, channel
from pytest_channelstub._html.page import write_index, write_page

SUITE = """
import pytest
from pytest_channelstub import channel

def test_passes(channel_stub):
    channel.send_message("alice", "hello")

def test_fails(channel_stub):
    channel.send_message("<script>alert(1)</script>", "</title><script>alert(1)</script>")
    assert False, "<script>alert(1)</script>"

@pytest.mark.parametrize("name", ["a/b", "<b>", "x" * 300, "\\x00"])
def test_names(channel_stub, name): ...

def test_uses_no_stub(): ...

def test_skips(channel_stub):
    pytest.skip("later")
"""


def write_run(directory, *nodeids):
    """Write the pages and the index of a run."""
    with ChannelServiceStub() as stub:
        channel.send_message("alice", "hello")
    pages = [write_page(directory, nodeid, "passed", [(stub.timeline, 0)]) for nodeid in nodeids]
    write_index(directory, pages)
    return [page["file"] for page in pages]


def files_in(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "xdist"])
def test_each_test_that_used_a_stub_has_a_page_and_the_index_leads_there(pytester, workers):
    pytester.makepyfile(SUITE)
    result = pytester.runpytest("--channelstub-timeline=out/pages", *workers)
    result.assert_outcomes(passed=6, failed=1, skipped=1)

    pages = {path.name: path.read_text("utf-8") for path in (pytester.path / "out/pages").iterdir()}
    index = pages.pop("index.html")
    links = re.findall(r'<a href="([^"]+)"', index)
    assert sorted(links) == sorted(pages)
    assert len(pages) == 7
    assert "test-fails" in links[0]
    assert "<script" not in index + "".join(pages.values())
    assert "hello" in next(page for name, page in pages.items() if "test-passes" in name)
    result.stdout.fnmatch_lines(["channelstub: 7 timelines in *index.html"])


def test_without_the_option_nothing_is_written(pytester):
    pytester.makepyfile(SUITE)
    before = set(pytester.path.rglob("*.html"))
    result = pytester.runpytest()
    assert set(pytester.path.rglob("*.html")) == before
    result.stdout.no_fnmatch_line("*timelines in*")


def test_a_file_cannot_be_the_directory_of_the_pages(pytester):
    pytester.makefile(".txt", taken="")
    result = pytester.runpytest("--channelstub-timeline=taken.txt")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --channelstub-timeline: *taken.txt is a file: name a*"])


@pytest.mark.parametrize("wanted", ["taken.txt/pages", "p" * 300], ids=["below a file", "too long"])
def test_a_directory_that_cannot_be_made_ends_the_run_before_it_begins(pytester, wanted):
    pytester.makefile(".txt", taken="")
    pytester.makepyfile(SUITE)
    result = pytester.runpytest(f"--channelstub-timeline={wanted}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    message = f"*{wanted[-5:]} cannot be written to: *: name another directory"
    result.stderr.fnmatch_lines([f"ERROR: --channelstub-timeline: {message}"])


def test_an_empty_name_is_not_the_current_directory(pytester):
    result = pytester.runpytest("--channelstub-timeline=")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --channelstub-timeline is empty: name a directory, new*"])


def test_a_run_with_one_test_has_an_index_of_one_test(pytester):
    pytester.makepyfile("def test_it(channel_stub): pass")
    result = pytester.runpytest("--channelstub-timeline=out")
    result.stdout.fnmatch_lines(["channelstub: 1 timeline in *index.html"])
    assert "<h1>1 test</h1>" in (pytester.path / "out/index.html").read_text("utf-8")


def test_the_index_shows_a_tests_parameters_as_they_were_written(tmp_path):
    write_run(tmp_path, r"test_it.py::test_it[\xfcml\xe4ut-\u2603-\x00]")
    index = (tmp_path / "index.html").read_text("utf-8").replace("<wbr>", "")
    assert r">test_it[ümläut-☃-\x00]</a>" in index


def test_a_run_removes_the_pages_of_earlier_runs(tmp_path):
    write_run(tmp_path, "t.py::test_one", "t.py::test_two")
    [page] = write_run(tmp_path, "t.py::test_two")
    assert files_in(tmp_path) == ["index.html", page]


def test_a_run_leaves_the_files_of_others_alone(tmp_path):
    (tmp_path / "report.html").write_text("<p>not ours</p>")
    (tmp_path / "notes.txt").write_text("not ours")
    (tmp_path / "folder.html").mkdir()
    elsewhere = tmp_path / "elsewhere"
    [old] = write_run(elsewhere, "t.py::test_old")
    (tmp_path / "link.html").symlink_to(elsewhere / old)
    [page] = write_run(tmp_path, "t.py::test_it")
    others = ["elsewhere", "folder.html", "link.html", "notes.txt", "report.html"]
    assert files_in(tmp_path) == sorted(["index.html", page, *others])


@pytest.mark.parametrize("nodeids", [["t.py::test_it"], []], ids=["a page", "the index"])
def test_a_page_that_cannot_be_written_is_an_os_error_and_leaves_no_rest(tmp_path, nodeids):
    [page] = write_run(tmp_path, "t.py::test_it")
    taken = tmp_path / (page if nodeids else "index.html")
    taken.unlink()
    taken.mkdir()
    with pytest.raises(OSError, match=taken.name):
        write_run(tmp_path, *nodeids)
    assert files_in(tmp_path) == sorted([page, "index.html"])


def test_a_page_that_cannot_be_written_does_not_end_the_run_which_says_so(pytester):
    pytester.makepyfile(
        test_it="def test_one(channel_stub): pass\ndef test_two(channel_stub): pass"
    )
    pytester.runpytest("--channelstub-timeline=out").assert_outcomes(passed=2)
    [page] = (pytester.path / "out").glob("*test-one-*.html")
    for path in (page, pytester.path / "out/index.html"):
        path.unlink()
        path.mkdir()

    result = pytester.runpytest("--channelstub-timeline=out")

    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "channelstub: no page for test_it.py::test_one: *",
            "channelstub: the index of the timelines cannot be written: *",
        ]
    )


def test_a_tilde_stands_for_the_home_directory(pytester, monkeypatch):
    monkeypatch.setenv("HOME", str(pytester.path))
    monkeypatch.setenv("USERPROFILE", str(pytester.path))
    pytester.makepyfile("def test_it(channel_stub): pass")

    pytester.runpytest("--channelstub-timeline=~/pages").assert_outcomes(passed=1)

    assert (pytester.path / "pages/index.html").exists()


def test_half_a_page_is_never_seen(tmp_path, monkeypatch):
    [page] = write_run(tmp_path, "t.py::test_it")
    before = (tmp_path / page).read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_run(tmp_path, "t.py::test_it")
    assert (tmp_path / page).read_bytes() == before
    assert files_in(tmp_path) == sorted([page, "index.html"])


def test_a_symlink_in_the_way_is_replaced_and_not_followed(tmp_path):
    directory = tmp_path / "pages"
    [page] = write_run(directory, "t.py::test_it")
    precious = tmp_path / "precious.txt"
    precious.write_text("keep")
    for name in (page, "index.html"):
        (directory / name).unlink()
        (directory / name).symlink_to(precious)
    write_run(directory, "t.py::test_it")
    assert precious.read_text() == "keep"
    assert not (directory / page).is_symlink()


def test_the_names_of_pages_are_safe_and_differ(tmp_path):
    nodeids = ("a/b.py::c", "a_b.py::c", "../../etc/passwd", "x" * 5000, "\ud800", "", "\x00")
    names = write_run(tmp_path, *nodeids)
    assert len({*names}) == len(nodeids)
    for name in names:
        assert {*name} <= {*string.ascii_letters, *string.digits, *"-."}
        assert len(name) < 110


def test_the_page_of_a_test_with_many_stubs_has_that_of_the_fixture(pytester):
    pytester.makepyfile(
        """
        from pytest_channelstub import channel

        def test_it(channel_stub, make_channel_stub):
            channel.send_message("alice", "of the fixture")
            for number in range(9):
                make_channel_stub()
                channel.send_message("alice", f"number {number}")
        """
    )

    pytester.runpytest("--channelstub-timeline=out")

    [page] = (pytester.path / "out").glob("*test-it*")
    text = page.read_text("utf-8")
    assert "of the fixture" in text
    assert "number 8" in text
