"""Pictures as data: sources, digests, splits, the cache, and the two halves of an image processor."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from datasets import Dataset
from sklearn.datasets import load_digits
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from src.data import PictureProcessor, PictureSplit, TaskData, collate, epoch_batches, load_task
from src.data import pixels as pixels_module
from src.errors import ConfigError, HarnessError
from src.spec import TaskSpec
from tests.full_disk import files_at_most

VIT = ViTImageProcessorPil(size={"height": 8, "width": 8})
CLIP = CLIPImageProcessorPil(size={"shortest_edge": 12}, crop_size={"height": 8, "width": 8})


def processor(inner: Any = VIT) -> PictureProcessor:
    """For a model that makes a token of each of 16 patches, and one more."""
    return PictureProcessor(inner, lambda shape: shape[1] * shape[2] // 4 + 1)


def task(path: Path | str, **changes: Any) -> TaskSpec:
    plain = {"kind": "classification", "image": "image", "test_split": None, **changes}
    return TaskSpec(str(path), **plain)


def picture(seed: int, width: int = 9, height: int = 7) -> PIL.Image.Image:
    draw = np.random.default_rng(seed)
    return PIL.Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: PIL.Image.Image, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def folder_of(root: Path, sizes: dict[str, int], start: int = 0) -> Path:
    """A folder of pictures as people keep them: <split>/<class>/<picture>.png."""
    for at, (name, size) in enumerate(sizes.items()):
        (root / name).mkdir(parents=True)
        for i in range(size):
            picture(start + 100 * at + i, width=8 + i, height=8 + at).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    spec = task("digits", validation_size=200, test_size=300)
    return load_task(spec, processor(), tmp_path_factory.mktemp("cache"))


def test_digits_are_those_of_scikit_learn(digits: TaskData) -> None:
    splits = {role: getattr(digits, role) for role in ("train", "validation", "test")}
    assert [len(split) for split in splits.values()] == [1297, 200, 300]
    assert (digits.num_labels, digits.label_names) == (10, tuple("0123456789"))
    for split in splits.values():
        share = split.labels.bincount() / len(split)
        assert ((share - 0.1).abs() < 0.02).all()  # stratified
    bunch = load_digits()
    shades = np.rint(bunch.images * 255 / 16).astype(np.uint8)
    known = {image.tobytes(): label for image, label in zip(shades, bunch.target, strict=True)}
    for split in splits.values():
        channels = split.pixels.unbind(1)  # 8 x 8 already, so nothing is resized; grey, so all channels are the same
        assert torch.equal(channels[0], channels[1])
        assert [known[image.numpy().tobytes()] for image in channels[0]] == split.labels.tolist()
    report = digits.report
    assert report["splits"]["train"]["tokens"] == 1297 * 17
    assert report["splits"]["train"]["overlapping"] == 0
    assert len(report["sha256"]) == 64
    assert 0.09 < report["majority_share"] < 0.12


def test_batches_of_pictures(digits: TaskData) -> None:
    split = digits.train
    assert isinstance(split, PictureSplit)
    rows = torch.tensor([5, 0, 77])
    batch = collate(split, rows, digits.pad_id)
    assert batch.input_ids is None
    assert (batch.length, batch.num_tokens) == (17, 3 * 17)
    assert torch.equal(batch.labels, split.labels[rows])
    images = [PIL.Image.fromarray(image.permute(1, 2, 0).numpy()) for image in split.pixels[rows]]
    assert torch.equal(batch.pixel_values, VIT(images, return_tensors="pt")["pixel_values"])
    order = torch.cat(epoch_batches(split.lengths, 32, 0, 0))
    assert torch.equal(order.sort().values, torch.arange(len(split)))
    assert not torch.equal(order, torch.arange(len(split)))


@pytest.mark.parametrize("inner", [VIT, CLIP], ids=["vit", "clip"])
def test_the_halves_are_the_whole(inner: Any) -> None:
    pictures = [picture(i, width=20 + i, height=33 - i) for i in range(5)]
    halves = processor(inner)
    pixels = halves.resize(pictures)
    assert (pixels.dtype, pixels.shape[1:], halves.shape) == (np.uint8, (3, 8, 8), (3, 8, 8))
    whole = inner(pictures, return_tensors="pt")["pixel_values"]
    assert torch.equal(halves.finish(torch.from_numpy(pixels)), whole.float())


@pytest.mark.parametrize(
    "inner",
    [
        ViTImageProcessorPil(do_resize=False),  # pictures keep their sizes
        CLIPImageProcessorPil(size={"shortest_edge": 12}, do_center_crop=False),
    ],
)
def test_a_processor_without_one_size_is_refused(inner: Any) -> None:
    with pytest.raises(HarnessError, match="must bring every picture to one size"):
        processor(inner)


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    folder_of(tmp_path / "pets" / "train", {"cat": 20, "dog": 15})
    folder_of(tmp_path / "pets" / "test", {"cat": 4, "dog": 4}, start=1000)
    data = load_task(task(tmp_path / "pets", test_split="test", validation_size=6), processor(), tmp_path / "cache")
    assert (len(data.train), len(data.validation), len(data.test)) == (29, 6, 8)
    assert data.label_names == ("cat", "dog")
    assert data.train.labels.bincount().tolist() == [17, 12]
    cat = PIL.Image.open(tmp_path / "pets" / "test" / "cat" / "0.png")
    assert np.array_equal(data.test.pixels[0].numpy(), processor().resize([cat])[0])


def parquet(file: Path, pictures: list[bytes | None], labels: list[Any] | None = None) -> Path:
    """As other programs write it: bytes and path, without datasets' own marks."""
    column = [None if content is None else {"bytes": content, "path": None} for content in pictures]
    names = labels or [("odd", "even")[i % 2] for i in range(len(column))]
    Dataset.from_dict({"image": column, "label": names}).to_parquet(file)
    return file


def test_parquet_with_missing_pictures_and_copies(tmp_path: Path) -> None:
    """A copy is known by what is to be seen, also from a file of another format; grey and RGB alike."""
    train = [encoded(picture(i)) for i in range(30)]
    grey = picture(99).convert("L")
    train[4:6] = [None, encoded(grey)]
    test = [encoded(picture(i)) for i in range(40, 50)]
    test[:2] = [encoded(picture(7), "BMP"), encoded(grey.convert("RGB"))]
    spec = task(
        parquet(tmp_path / "a.parquet", train), test_path=str(parquet(tmp_path / "b.parquet", test)),
        test_split="test", validation_size=4,
    )  # fmt: skip
    data = load_task(spec, processor(), tmp_path / "cache")
    report = data.report["splits"]
    assert report["train"]["incomplete"] == 1
    assert (len(data.train) + len(data.validation), len(data.test)) == (29, 8)
    assert report["test"]["overlapping"] == 2


def test_regression_on_pictures(tmp_path: Path) -> None:
    numbers = [i / 4 for i in range(30)]
    file = parquet(tmp_path / "a.parquet", [encoded(picture(i)) for i in range(30)], numbers)
    data = load_task(task(file, kind="regression", metric="mse"), processor(), tmp_path / "cache")
    assert data.num_labels == 1
    labels = torch.cat([getattr(data, role).labels for role in ("train", "validation", "test")])
    assert sorted(labels.tolist()) == numbers


def test_a_second_start_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parquet(tmp_path / "a.parquet", [encoded(picture(i)) for i in range(30)])
    first = load_task(task(file), processor(), tmp_path / "cache")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")}
    assert len(kept) == 3

    def refuse(*_: Any) -> None:
        raise AssertionError("decoded again")

    with monkeypatch.context() as context:
        context.setattr("src.data.pictures.Pictures.decode", refuse)
        again = load_task(task(file), processor(), tmp_path / "cache")
    assert torch.equal(again.train.pixels, first.train.pixels)
    assert again.report == first.report
    # Another processor, other pixels: nothing of the first's is taken.
    other = load_task(task(file), processor(CLIP), tmp_path / "cache")
    assert not torch.equal(other.train.pixels, first.train.pixels)
    for path, time in kept.items():
        assert path.stat().st_mtime_ns == time


def test_a_file_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", [encoded(picture(i)) for i in range(30)])
    first = load_task(task(file), processor(), tmp_path / "cache").train.pixels.clone()
    for path in (tmp_path / "cache").rglob("*.npy"):
        path.write_bytes(path.read_bytes()[:-100])
    assert torch.equal(load_task(task(file), processor(), tmp_path / "cache").train.pixels, first)


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    rows = [encoded(picture(i)) for i in range(300)]
    file = parquet(tmp_path / "a.parquet", rows)
    large = processor(ViTImageProcessorPil(size={"height": 64, "width": 64}))
    with pytest.raises(HarnessError, match=r"cannot be written.*too large"), files_at_most(1_000_000):
        load_task(task(file), large, tmp_path / "cache")
    assert not list((tmp_path / "cache" / "pixels").iterdir())


def test_pixels_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No step takes memory for more than a chunk of pictures (numpy reports what it takes to tracemalloc)."""
    monkeypatch.setattr(pixels_module, "CHUNK", 8)
    file = parquet(tmp_path / "a.parquet", [encoded(picture(i)) for i in range(120)])
    large = processor(ViTImageProcessorPil(size={"height": 512, "width": 512}))
    tracemalloc.start()
    data = load_task(task(file), large, tmp_path / "cache")
    collate(data.train, torch.arange(4), data.pad_id)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert data.train.pixels.nbytes > 75e6
    assert peak < 40e6


@pytest.mark.parametrize(
    ("content", "reason"), [(b"no picture", "cannot identify"), (encoded(picture(0))[:-40], "truncated")]
)
def test_a_broken_picture_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    rows = [encoded(picture(i)) for i in range(30)]
    rows[12] = content
    with pytest.raises(HarnessError, match=rf"row 12 .* train split of .*a\.parquet cannot be read: .*{reason}"):
        load_task(task(parquet(tmp_path / "a.parquet", rows)), processor(), tmp_path / "cache")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "photo"}, "task.image is 'photo'; allowed: a column of .*: image, label"),
        ({"image": "label"}, "task.image is 'label'; allowed: a column of .* that holds pictures"),
        ({"label": "class"}, "task.label is 'class'"),
        ({"image": None}, "task.text is 'text'; allowed: a column of .*: image, label"),
    ],
)
def test_wrong_columns(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_task(task("digits", **changes), processor(), tmp_path)
