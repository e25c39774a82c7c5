"""Tables as people save them: dialects say the same, and what does not fit is named with its line."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fairbench.errors import UserError
from fairbench.images.table_file import path_inside, read_table

PLAIN = 'path,prompt,gender\nx/0.png,"a cook, a person",male\nx/1.png,a maid,\n'
DIALECTS = {
    "plain": PLAIN,
    "semicolons": "path;prompt;gender\nx/0.png;a cook, a person;male\nx/1.png;a maid;\n",
    "tabs": "path\tprompt\tgender\nx/0.png\ta cook, a person\tmale\nx/1.png\ta maid\t\n",
    "spaces": 'path, prompt , gender\nx/0.png, "a cook, a person", male\n x/1.png , a maid ,\n',
    "capitals": PLAIN.replace("path,prompt,gender", "Path,PROMPT,Gender"),
    "backslashes": PLAIN.replace("x/", ".\\x\\"),
    "mark and line ends": "\ufeff" + PLAIN.replace("\n", "\r\n"),
    "blank lines": "\n" + PLAIN.replace("\nx/1", "\n\n,,\nx/1") + "\n",
    "quoted": '"path","prompt","gender"\n"x/0.png","a cook, a person","male"\n"x/1.png","a maid",""\n',
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_says_the_same(tmp_path, dialect):
    (tmp_path / "x").mkdir()
    for k in range(2):
        Image.fromarray(np.zeros((2, 2, 3), dtype=np.uint8)).save(tmp_path / f"x/{k}.png")
    (tmp_path / "t.csv").write_text(DIALECTS[dialect], encoding="utf-8", newline="")
    table = read_table(tmp_path / "t.csv")
    assert table.rows[["prompt", "gender"]].values.tolist() == [["a cook, a person", "male"], ["a maid", ""]]
    assert table.paths("path") == [tmp_path.resolve() / f"x/{k}.png" for k in range(2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "prompt,path\na nurse, a person,0.png\n",
            "t.csv line 2: has 3 fields where the header has 2: put",
        ),
        ("path,prompt\n0.png,a nurse\n1.png,a nurse, a person\n", "line 3: has 3 fields"),
        ("path,prompt,gender\n0.png,a nurse,female,\n", "line 2: has 4 fields"),
        ("path,prompt,gender\n0.png,a nurse\n", "line 2: has 2 fields where the header has 3"),
        ('path,prompt\n0.png,"a\nnurse",\n', "line 3: has 3 fields"),
        ('path,prompt\n0.png,"a" nurse\n', "is no table that can be read: line 2"),
        ("path,gender,Gender\n0.png,male,male\n", "has two columns gender: take one out"),
    ],
)
def test_rows_that_do_not_fit_their_header_are_refused_with_the_line(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError) as error:
        read_table(tmp_path / "t.csv")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_names_no_file_or_one_twice_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("path,original\n0.png,o.png\n1.png,\n./x/../0.png,o.png\n")
    table = read_table(tmp_path / "t.csv")
    with pytest.raises(UserError, match="line 3: has no original: name a file"):
        table.paths("original", once=False)
    with pytest.raises(UserError, match=r"line 4: names \./x/\.\./0\.png as line 2 does"):
        table.paths("path")


def test_parquet_has_the_columns_that_an_index_had(tmp_path):
    rows = pd.DataFrame({"path": ["0.png", "1.png"], "Prompt": ["a ", None], "n": [1, 2]})
    rows.set_index("path").to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.rows[["path", "prompt", "n"]].values.tolist() == [["0.png", "a", "1"], ["1.png", "", "2"]]
    assert list(table.rows.index) == [0, 1] and table.where(1) == f"{tmp_path / 't.parquet'} row 2"


def test_a_table_reaches_for_nothing_outside_its_folder(tmp_path):
    assert path_inside(tmp_path, "x/../a.png") == tmp_path.resolve() / "a.png"
    outside = "../a.png", "/etc/hostname", "..\\a.png", "x/../../a.png"
    assert [path_inside(tmp_path / "in", path) for path in outside] == [None] * 4


def test_links_of_a_snapshot_may_end_in_its_own_repository_and_nowhere_else(tmp_path):
    repository = tmp_path / "datasets--who--faces"
    snapshot = repository / "snapshots" / "0123abc"
    for folder in (snapshot, repository / "blobs", tmp_path / "other" / "blobs"):
        folder.mkdir(parents=True)
    for blob in (repository / "blobs" / "abc", tmp_path / "other" / "blobs" / "abc"):
        blob.write_bytes(b"")
    (snapshot / "0.png").symlink_to("../../blobs/abc")
    (snapshot / "1.png").symlink_to("../../blobs/abc")  # the same content twice is two images
    (snapshot / "2.png").symlink_to("../../../other/blobs/abc")
    (snapshot / "3.png").symlink_to("3.png")
    assert path_inside(snapshot, "0.png") == snapshot.resolve() / "0.png" != path_inside(snapshot, "1.png")
    assert path_inside(snapshot, "2.png") is None
    assert path_inside(snapshot, "3.png") == snapshot.resolve() / "3.png"  # opening it says what is wrong
    (repository / "blobs").rename(repository / "kept")
    (snapshot / "4.png").symlink_to("../../kept/abc")
    assert path_inside(snapshot, "4.png") is None
