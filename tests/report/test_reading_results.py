from pathlib import Path

import pytest

from fairbench.metrics.floor import noise_floor

PAGE = Path(__file__).parents[2] / "docs" / "reading-results.md"


def test_the_floors_that_the_page_states():
    table = PAGE.read_text(encoding="utf-8").split("| images with a face per prompt")[1].split("\n\n")[0]
    rows = [[float(cell) for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert [row[0] for row in rows] == [16, 30, 60, 160]
    for n, *floors in rows:
        assert floors == pytest.approx([noise_floor(int(n), classes) for classes in (2, 4, 8)], abs=5e-4)
