"""Tables in Markdown, and where they are put."""

from fairbench.markdown import markdown_table, write_between_marks


def test_a_table_has_a_line_for_each_row():
    assert (
        markdown_table(("a", "b"), [(1, "x"), (None, 2.5)])
        == "| a | b |\n| --- | --- |\n| 1 | x |\n| None | 2.5 |"
    )


def test_only_what_stands_between_the_marks_is_replaced(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- tables -->\nold\n<!-- end of tables -->\nafter\n")
    for text in (r"a \1 b" + "\n", "new\n"):  # what looks like a group of the pattern is text
        write_between_marks(page, text)
        assert page.read_text() == f"before\n<!-- tables -->\n{text}<!-- end of tables -->\nafter\n"
