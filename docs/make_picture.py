"""Make timeline.png, the README's picture: the timeline page of one of the examples' tests.

Run it where the package is installed with its extra `test`, Pillow is too, and a Chromium is
on the PATH: `python docs/make_picture.py`.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "tests" / "examples"
TEST = "test_chat.py::test_a_page_that_comes_back_reads_what_it_missed"
WIDTH, HEIGHT, SCALE = 840, 1300, 2
COLORS = 48
# A frame, as the page's light background would otherwise float on a dark one.
STYLE = """
  header, .legend { padding: 0 20px } header { padding-top: 18px }
  details { display: none }
  body { border: 1px solid #d0cdc4; overflow: hidden; padding-bottom: 12px }
"""


def write_timeline(directory: str) -> Path:
    """Run the test, and return the page of its timeline."""
    command = [sys.executable, "-m", "pytest", "-q", TEST, f"--channelstub-timeline={directory}"]
    subprocess.run(command, cwd=EXAMPLES, check=True)  # noqa: S603 (our own command)
    [page] = Path(directory).glob("test-*.html")
    return page


def take_picture(page: Path) -> bytes:
    """Show the page in Chromium, and return what it looks like, as a PNG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        size = {"width": WIDTH, "height": HEIGHT}
        tab = browser.new_page(viewport=size, device_scale_factor=SCALE, color_scheme="light")
        tab.goto(page.as_uri())
        tab.add_style_tag(content=STYLE)
        picture = tab.locator("body").screenshot()
        browser.close()
    return picture


def save(picture: bytes, path: Path) -> None:
    """Write a picture with few colours, which keeps it small."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    # This method keeps the rare colours: those of the time-out and of the tokens.
    image.quantize(COLORS, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        save(take_picture(write_timeline(directory)), DOCS / "timeline.png")
