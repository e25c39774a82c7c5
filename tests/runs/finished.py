"""One run of the small world to its end."""

import pytest

from fairbench.runs.run import run


@pytest.fixture(scope="session")
def done(built, tmp_path_factory):
    """One finished run: its directory, its metrics, and what its progress told."""
    out, told = tmp_path_factory.mktemp("runs") / "done", []
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(built.root / "plugin")
        metrics = run(built.config(), out, progress=lambda *what: told.append(what))
    return out, metrics, told
