import pytest
import torch
from PIL import Image

from fairbench.errors import UserError
from fairbench.judges.labelled import batches, read_labelled

ATTRIBUTES = {"gender": ("female", "male"), "race": ("WMELH", "Black", "Indian", "Asian")}


def draw(path, colour=(255, 0, 0), size=(4, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


def test_a_folder_per_class(tmp_path):
    for name in ("male/b.png", "male/deep/a.JPG", "female/c.png"):
        draw(tmp_path / name)
    (tmp_path / "male" / "notes.txt").write_text("no image")
    found = read_labelled(tmp_path, ATTRIBUTES)
    assert [path.name for path in found.paths] == ["c.png", "b.png", "a.JPG"]
    assert found.labels == {"gender": (0, 1, 1)}


def test_a_table_with_several_attributes_some_unknown(tmp_path):
    (tmp_path / "labels.csv").write_text(
        "\ufeffpath,gender,race,remark\nx/a.png,male,Asian,-\nb.png,,Black,\n", encoding="utf-8"
    )
    found = read_labelled(tmp_path / "labels.csv", ATTRIBUTES)
    assert [path.relative_to(tmp_path.resolve()).as_posix() for path in found.paths] == ["x/a.png", "b.png"]
    assert found.labels == {"gender": (1, -1), "race": (3, 1)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,gender\na.png,male\n", "must have the column path"),
        ("path,sex\na.png,male\n", "and one of gender, race"),
        ("path,gender\n", "has no rows"),
        ("", "must have the column path"),
        ("path,gender\na.png,mail\n", "line 2: unknown class of gender 'mail': did you mean 'male'"),
        ("path,gender\na.png,male\n../a.png,male\n", "line 3: the path '../a.png' is not inside the folder"),
        ("path,gender\n/etc/hostname,male\n", "is not inside the folder"),
        ("path,gender\n,male\n", "line 2: has no path"),
        (
            "path,gender\na.png,male\nb.png,male\n./a.png,male\n",
            "line 4: names ./a.png as line 2 does",
        ),
        ("path,gender\na.png,male\na.png,female\n", "line 3: names a.png as line 2 does"),
        (b"path,gender\n\xff.png,male\n", "is not a CSV in UTF-8"),
    ],
)
def test_a_faulty_table_is_one_line_that_names_the_row(tmp_path, text, message):
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        read_labelled(path, ATTRIBUTES)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_folders_that_are_no_classes_of_one_attribute_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder or CSV"):
        read_labelled(tmp_path / "nowhere", ATTRIBUTES)
    with pytest.raises(UserError, match="one folder per class"):
        read_labelled(tmp_path, ATTRIBUTES)
    (tmp_path / "male").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        read_labelled(tmp_path, ATTRIBUTES)
    (tmp_path / "Black").mkdir()
    with pytest.raises(UserError, match="one folder per class of one attribute"):
        read_labelled(tmp_path, ATTRIBUTES)


def test_batches_keep_the_order_and_their_labels(tmp_path):
    sizes = [(4, 4)] * 3 + [(6, 4)] * 2 + [(4, 4)]
    for number, size in enumerate(sizes):
        draw(tmp_path / ("male" if number > 3 else "female") / f"{number}.png", (number, 0, 0), size)
    found = list(batches(read_labelled(tmp_path, ATTRIBUTES)))
    assert [images.shape for images, _ in found] == [
        (3, 3, 4, 4), (2, 3, 4, 6), (1, 3, 4, 4)
    ]  # fmt: skip
    reds = torch.cat([images[:, 0, 0, 0] for images, _ in found]) * 255
    assert reds.round().tolist() == list(range(len(sizes)))
    assert [labels["gender"].tolist() for _, labels in found] == [[0, 0, 0], [0, 1], [1]]


def test_what_is_hidden_is_passed_over_and_what_lies_loose_is_named(tmp_path):
    for name in ("male/a.png", "female/b.png", "female/.ipynb_checkpoints/b-checkpoint.png", "male/._a.png",
                 ".ipynb_checkpoints/c.png"):  # fmt: skip
        draw(tmp_path / name)
    assert [path.name for path in read_labelled(tmp_path, ATTRIBUTES).paths] == ["b.png", "a.png"]
    draw(tmp_path / "d.png")
    with pytest.raises(UserError, match=r"d\.png: lies in no folder of a class"):
        read_labelled(tmp_path, ATTRIBUTES)


def test_a_linked_folder_counts_and_a_circle_is_named(tmp_path):
    for name in ("set/male/0.png", "set/female/1.png", "elsewhere/2.png", "elsewhere/deep/3.png"):
        draw(tmp_path / name)
    (tmp_path / "set/male/more").symlink_to(tmp_path / "elsewhere")
    found = read_labelled(tmp_path / "set", ATTRIBUTES)
    assert sorted(path.name for path in found.paths) == ["0.png", "1.png", "2.png", "3.png"]
    (tmp_path / "elsewhere/deep/again").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="again: is a link that leads back to a folder around it"):
        read_labelled(tmp_path / "set", ATTRIBUTES)
