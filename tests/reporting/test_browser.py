"""The page in a real browser: what its console says, in light and dark, and whether it fits a phone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

from src.records import StudyPaths

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PHONE, ROOM = 390, 1400
CONSOLE = re.compile(r"CONSOLE:\d+\] \"(.*)\"")
DARK = "--blink-settings=preferredColorScheme=0"


@pytest.fixture(scope="module")
def browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed (Debian: apt-get install chromium)")
    return found


def visit(browser: str, page: Path, profile: Path, *options: str) -> tuple[str, list[str]]:
    """The document after it was loaded, and all messages on its console."""
    common = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        f"--window-size={ROOM},900",
    ]
    log = ["--enable-logging=stderr", "--v=0", f"--user-data-dir={profile}"]
    done = subprocess.run(
        [browser, *common, *log, *options, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True, env={**os.environ, "HOME": str(profile)},
    )  # fmt: skip
    return done.stdout, CONSOLE.findall(done.stderr)


def test_messages_on_the_console_are_seen(browser: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<script>console.error('broken')</script><img src='missing.png'>")
    assert "broken" in visit(browser, page, tmp_path)[1]


@pytest.mark.parametrize("options", [(), (DARK,)], ids=["light", "dark"])
def test_the_console_stays_silent(
    browser: str, full_report: StudyPaths, tmp_path: Path, options: tuple[str, ...]
) -> None:
    dom, messages = visit(browser, full_report.page, tmp_path, *options)
    assert messages == []
    assert (
        dom.count("<svg") == len(list(full_report.figures.glob("*.svg"))) > 8 and "Best by validation accuracy" in dom
    )


def test_colours_follow_the_reader_and_nothing_is_wider_than_the_screen(
    browser: str, full_report: StudyPaths, tmp_path: Path
) -> None:
    """A frame as wide as a phone tells how wide its content is; the script stands outside of the page."""
    measure = """<script>onload = () => { for (const frame of document.querySelectorAll("iframe")) {
        const inner = frame.contentDocument, root = inner.documentElement, look = frame.contentWindow.getComputedStyle;
        const colours = look(inner.body).backgroundColor + " " + look(inner.querySelector("svg text")).fill;
        document.body.append(`[${root.scrollWidth - root.clientWidth} ${colours}]`); } }</script>"""
    page = tmp_path / "frames.html"
    source = escape(full_report.page.read_text(), quote=True)
    frames = "".join(f'<iframe srcdoc="{source}" width="{width}" style="border:0"></iframe>' for width in (PHONE, ROOM))
    page.write_text(f"<!doctype html><meta name=color-scheme content='light dark'><body>{frames}{measure}")
    found = {}
    for name, options in (("light", ()), ("dark", (DARK,))):
        dom, messages = visit(browser, page, tmp_path, *options)
        assert messages == []
        found[name] = re.findall(r"\[(-?\d+) (rgb\([^)]*\)) (rgb\([^)]*\))\]", dom)
        assert [int(excess) for excess, _, _ in found[name]] == [0, 0]
    (_, light_page, light_ink), (_, dark_page, dark_ink) = found["light"][0], found["dark"][0]
    assert light_page == "rgb(255, 255, 255)" and light_page != dark_page and light_ink != dark_ink
