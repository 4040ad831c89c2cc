"""Where images come from: digits, toys, folders, zips, parquet."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from lit_gan.data import DATA, build_data
from lit_gan.data.folder import class_indices, read_labels
from lit_gan.errors import UserError


@pytest.fixture(autouse=True)
def _own_cache(_own_world, tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "cache"))


def prepared(name, **keywords):
    data = build_data(name, **keywords)
    data.prepare()
    return data


def write(root: Path, *names: str) -> Path:
    """Flat images whose grey value is their place in `names` times 10."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (i * 10,) * 3).save(root / name)
    return root


def values(data) -> list[int]:
    return [round(int(value) / 10) for value in data.images[:, 4, 4, 0]]


def test_unknown_source_names_the_nearest():
    with pytest.raises(UserError, match="did you mean folder"):
        build_data("foldr")


@pytest.mark.parametrize("name", DATA)
def test_every_source_is_imported_lazily_and_builds(name):
    assert build_data(name, batch_size=8).batch_size == 8


def test_digits_use_the_full_range_and_have_ten_classes():
    data = prepared("digits")

    assert data.image_shape == (1, 32, 32)
    assert data.size == 1797
    assert data.num_classes == 10
    assert data.keys == ("image", "label")
    assert (data.images.min(), data.images.max()) == (0, 255)
    assert np.abs(np.array(data.class_weights) - 0.1).max() < 0.01
    assert sum(data.class_weights) == pytest.approx(1)


def test_digits_at_their_natural_size_are_scikit_learns():
    from sklearn.datasets import load_digits

    data = prepared("digits", image_size=None)

    assert (data.images[..., 0] == np.rint(load_digits().images / 16 * 255)).all()
    assert (data.labels == load_digits().target).all()


def test_digits_in_rgba_repeat_the_grey_and_are_opaque():
    data = prepared("digits", channels=4, image_size=(16, 20))

    assert data.image_shape == (4, 16, 20)
    assert (data.images[..., 0] == data.images[..., 2]).all()
    assert (data.images[..., 3] == 255).all()


@pytest.mark.parametrize(("kind", "modes", "scale"), [("ring", 8, 2.5), ("grid", 25, 5.0)])
def test_toy_points_lie_around_the_published_modes(kind, modes, scale):
    data = prepared("toy", kind=kind, count=20_000)
    points = np.asarray(data.images).reshape(-1, 2)

    assert data.image_shape == (2, 1, 1)
    assert data.num_classes == modes == len(data.centres)
    assert data.scale == pytest.approx(scale)
    assert data.std * data.scale == pytest.approx({"ring": 0.02, "grid": 0.05}[kind])
    assert np.abs(points).max() < 1
    offsets = (points - data.centres[data.labels]) / data.std
    assert np.abs(offsets.mean(0)).max() < 0.05
    assert np.abs(offsets.std(0) - 1).max() < 0.03
    assert (np.linalg.norm(offsets, axis=1) < 3).mean() == pytest.approx(1 - np.exp(-4.5), abs=0.005)
    extents = np.abs(data.centres * data.scale).max()
    assert extents == pytest.approx({"ring": 2.0, "grid": 4.0}[kind])


def test_toy_grid_needs_a_square_number_of_modes():
    with pytest.raises(UserError, match=r"data\.modes=16"):
        build_data("toy", kind="grid", modes=24)


def test_class_subfolders_are_labels(tmp_path):
    root = write(tmp_path / "photos", "dog/b.JPG", "cat/a.png", "cat/deep/c.webp", "cat/.hidden.png")
    (root / "readme.txt").write_text("no image")

    data = prepared("folder", path=str(root), image_size=16)

    assert data.class_names == ("cat", "dog")
    assert values(data) == [1, 2, 0]
    assert data.labels.tolist() == [0, 0, 1]


def test_folder_around_the_classes_is_no_class(tmp_path):
    root = write(tmp_path / "photos", "all/train/x.png", "all/test/y.png")

    assert prepared("folder", path=str(root)).class_names == ("test", "train")


@pytest.mark.parametrize(
    "names", [("a.png", "b.png"), ("one/a.png", "one/b.png"), ("cat/a.png", "dog/b.png", "c.png")]
)
def test_images_without_class_structure_are_unlabelled(tmp_path, names):
    data = prepared("folder", path=str(write(tmp_path / "photos", *names)))

    assert data.keys == ("image",)
    assert data.num_classes == 0
    assert data.class_weights is None
    assert data.size == len(names)


def test_names_with_brackets_and_stars_are_found(tmp_path):
    root = write(tmp_path / "my [best] photos*", "x[1].png", "y?.png")

    assert prepared("folder", path=str(root)).size == 2


def test_linked_folders_are_followed_and_loops_are_not(tmp_path):
    write(tmp_path / "elsewhere", "a.png")
    root = write(tmp_path / "photos", "dog/b.png")
    (root / "cat").symlink_to(tmp_path / "elsewhere")
    (root / "dog" / "loop").symlink_to(root)

    data = prepared("folder", path=str(root))

    assert data.class_names == ("cat", "dog")
    assert data.size == 2


def test_zip_gives_the_same_as_its_folder(tmp_path):
    root = write(tmp_path / "photos", "cat/a.png", "dog/b.JPG", "dog/c.png")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for file in sorted(root.rglob("*.*"), reverse=True):
            archive.write(file, file.relative_to(tmp_path))
        archive.writestr("__MACOSX/photos/cat/._a.png", b"no image")
        archive.writestr("photos/readme.txt", "no image")

    zipped, plain = (prepared("folder", path=str(path)) for path in (tmp_path / "photos.zip", root))

    assert zipped.fingerprint == plain.fingerprint
    assert zipped.class_names == ("cat", "dog")
    assert zipped.size == 3


@pytest.mark.parametrize("text", ["file,label\na.png,7\nsub/b.png,12\n", "a.png,7\nsub/b.png,12\n"])
@pytest.mark.parametrize("zipped", [False, True])
def test_labels_come_from_a_csv(tmp_path, text, zipped):
    root = write(tmp_path / "photos", "a.png", "sub/b.png")
    (root / "labels.csv").write_text(text)
    path = root
    if zipped:
        path = tmp_path / "photos.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in root.rglob("*.*"):
                archive.write(file, file.relative_to(tmp_path))

    data = prepared("folder", path=str(path))

    assert data.class_names == ("7", "12")
    assert data.labels.tolist() == [0, 1]


def test_csv_without_a_row_for_every_image_is_refused(tmp_path):
    root = write(tmp_path / "photos", "a.png", "b.png")
    (root / "labels.csv").write_text("file,label\na.png,x\n")

    with pytest.raises(UserError, match=r"no row for 1 of 2 images.*b\.png"):
        prepared("folder", path=str(root))


def test_columns_of_a_csv_are_found_by_name():
    assert read_labels("id,Label,file_name\n1,x,a.png\n", "t") == {"a.png": "x"}
    with pytest.raises(UserError, match="file,label"):
        read_labels("a.png\n", "t")


def test_class_names_are_sorted_by_value_when_they_are_numbers():
    assert class_indices(["10", "9", "10"])[1] == ("9", "10")
    assert class_indices(["b10", "b9"])[1] == ("b10", "b9")


def test_max_images_takes_a_part_of_every_class_and_always_the_same(tmp_path):
    root = write(tmp_path / "photos", *(f"{c}/{i}.png" for c in "ab" for i in range(12)))

    first = prepared("folder", path=str(root), max_images=10)
    again = prepared("folder", path=str(root), max_images=10, image_size=32)

    assert first.size == 10
    assert set(first.labels) == {0, 1}
    assert (first.labels == again.labels).all()


def test_changed_folder_is_decoded_again(tmp_path):
    root = write(tmp_path / "photos", "a.png")
    before = prepared("folder", path=str(root))
    write(root, "a.png", "b.png")

    after = prepared("folder", path=str(root))

    assert (before.size, after.size) == (1, 2)
    assert before.fingerprint != after.fingerprint


def test_corrupt_image_is_listed_and_skipped(tmp_path):
    root = write(tmp_path / "photos", "cat/a.png", "dog/b.png")
    (root / "cat" / "bad.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"1 of the 3 images .* cat/bad\.png"):
        prepared("folder", path=str(root))

    data = prepared("folder", path=str(root), max_bad_share=0.5)

    assert data.skipped == ["cat/bad.png: not an image that can be read"]
    assert data.labels.tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["unset", "missing", "empty", "no images", "no zip"])
@pytest.mark.filterwarnings("error")
def test_folder_errors_are_one_line_with_a_remedy(tmp_path, kind):
    path = tmp_path / "photos"
    if kind in ("empty", "no images"):
        path.mkdir()
    if kind == "no images":
        (path / "notes.txt").write_text("text")
    if kind == "no zip":
        path.write_text("text")

    with pytest.raises(UserError, match=r"^data\.path[^\n]*(check|give)[^\n]*$"):
        prepared("folder", path="" if kind == "unset" else str(path))


def encoded(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value * 10,) * 3).save(file, "PNG")
    return file.getvalue()


def parquet(path: Path, count: int = 6, label: object | None = None, first: int = 0) -> Path:
    """Parquet in the hub's schema."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = {"img": datasets.Image(), "label": label or datasets.ClassLabel(names=["cat", "dog"])}
    rows = range(first, first + count)
    columns = {"img": [{"bytes": encoded(i), "path": None} for i in rows], "label": [i % 2 for i in rows]}
    datasets.Dataset.from_dict(columns, features=datasets.Features(features)).to_parquet(str(path))
    return path


def test_parquet_in_the_hubs_schema(tmp_path):
    data = prepared("hub", path=str(parquet(tmp_path / "train[1].parquet")))

    assert data.image_shape == (3, 8, 8)
    assert data.class_names == ("cat", "dog")
    assert values(data) == list(range(6))
    assert data.labels.tolist() == [0, 1] * 3


def test_parquet_without_metadata_and_with_integer_labels(tmp_path):
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(parquet(tmp_path / "a.parquet", label=datasets.Value("int32")))
    pyarrow.parquet.write_table(table.replace_schema_metadata(None), tmp_path / "b.parquet")

    data = prepared("hub", path=str(tmp_path / "b.parquet"), channels=1, image_size=16)

    assert data.image_shape == (1, 16, 16)
    assert data.class_names == ("0", "1")
    assert values(data) == list(range(6))


def test_split_is_found_in_a_folder_of_parquet(tmp_path):
    parquet(tmp_path / "set" / "data" / "train-00000-of-00002.parquet", count=3)
    parquet(tmp_path / "set" / "data" / "train-00001-of-00002.parquet", count=3, first=3)
    parquet(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", count=2, first=7)

    assert values(prepared("hub", path=str(tmp_path / "set"))) == list(range(6))
    assert values(prepared("hub", path=str(tmp_path / "set"), split="test")) == [7, 8]


def test_columns_can_be_given(tmp_path):
    path = str(parquet(tmp_path / "a.parquet"))

    assert prepared("hub", path=path, label_column="none").keys == ("image",)
    assert prepared("hub", path=path, image_column="img", label_column="label").num_classes == 2
    with pytest.raises(UserError, match=r"data\.label_column=lable .* img, label"):
        prepared("hub", path=path, label_column="lable")


def test_rows_without_an_image_are_skipped_and_a_part_can_be_taken(tmp_path):
    columns = {"image": [{"bytes": encoded(1), "path": None}, None] * 4}
    table = datasets.Dataset.from_dict(columns, features=datasets.Features({"image": datasets.Image()}))
    table.to_parquet(str(tmp_path / "a.parquet"))

    data = prepared("hub", path=str(tmp_path / "a.parquet"), max_bad_share=0.5)

    assert data.size == 4
    assert data.skipped[0] == "row 1: the row has no image"


def test_unlabelled_rows_of_a_labelled_set_are_refused(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a"])})
    columns = {"image": [{"bytes": encoded(1), "path": None}], "label": [-1]}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(tmp_path / "test.parquet"))

    with pytest.raises(UserError, match=r"data\.label_column=none"):
        prepared("hub", path=str(tmp_path / "test.parquet"))


@pytest.mark.parametrize("path", ["", "missing/a/b.parquet", "empty", "torn.parquet", "no-such/data-set"])
def test_hub_errors_are_one_line_with_a_remedy(tmp_path, monkeypatch, path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(UserError, match=r"^data\.path[^\n]*$"):
        prepared("hub", path=path)
