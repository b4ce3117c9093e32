"""Pages as files: templates, writing, and removing the pages of earlier runs."""

from __future__ import annotations

import secrets
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_GENERATOR = '<meta name="generator" content="pytest-channelstub">'
_GENERATOR_WITHIN = 500  # bytes from a page's beginning


def fill(template: str, **values: str) -> str:
    """Fill a template of this folder.

    Args:
        template: Its name, without `.html`.
        values: What stands in place of its `$names`, as HTML.
    """
    text = Path(__file__).with_name(f"{template}.html").read_text("utf-8")
    return Template(text).substitute(values)


def write_document(path: Path, title: str, body: str) -> None:
    """Write a page in one step, so that there is never half of one.

    A symlink of that name is replaced, and not followed.

    Args:
        path: Where to.
        title: As text.
        body: As HTML.

    Raises:
        OSError: It cannot be written. What was there before is as it was.
    """
    style = Path(__file__).with_name("page.css").read_text("utf-8")
    text = fill("document", generator=_GENERATOR, title=escape(title), style=style, body=body)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(text.encode("utf-8", "backslashreplace"))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_old_documents(directory: Path, current: Collection[str]) -> None:
    """Remove the pages that `write_document` wrote in earlier runs, and nothing else.

    Args:
        directory: Where they are.
        current: Names of the pages to keep.

    Raises:
        OSError: One cannot be read or removed.
    """
    for path in directory.glob("*.html"):
        if path.name not in current and path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                is_ours = _GENERATOR.encode() in file.read(_GENERATOR_WITHIN)
            if is_ours:
                path.unlink()
