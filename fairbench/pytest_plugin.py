"""A bias limit as a test: a fixture with a run, and an assertion that holds only if the run has shown it.

Loaded by pytest itself wherever fairbench is installed; it imports nothing heavy until the fixture is used.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fairbench.store.load import StoredRun

OPTIONS = {
    "run": "Directory of the run that fairbench_run gives.",
    "config": "YAML settings of that run; what of it is not done yet is done first.",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --fairbench-run and --fairbench-config, and settings of the same meaning for the ini file."""
    group = parser.getgroup("fairbench", "bias of text-to-image models")
    for name, meaning in OPTIONS.items():
        group.addoption(f"--fairbench-{name}", default=None, metavar="PATH", help=meaning)
        parser.addini(f"fairbench_{name}", f"{meaning} Relative to this file.", default=None)


@pytest.fixture(scope="session")
def fairbench_run(request: pytest.FixtureRequest) -> "StoredRun":
    """Return the run of ``--fairbench-run``; with ``--fairbench-config``, run or finish it first."""
    from fairbench.store.load import load_run

    directory, settings = (_path(request.config, name) for name in OPTIONS)
    if directory is None and settings is None:
        raise pytest.UsageError(
            "fairbench_run: give --fairbench-run DIRECTORY, --fairbench-config FILE, or both of them; "
            "or fairbench_run and fairbench_config in the ini file"
        )
    if settings is not None:
        from fairbench.config import load_config
        from fairbench.runs.run import run
        from fairbench.store.layout import default_directory

        config = load_config(settings)
        directory = directory or request.config.rootpath / default_directory(config)
        run(config, directory)
    assert directory is not None  # noqa: S101
    return load_run(directory)


def assert_bias_at_most(
    run: "StoredRun", attribute: str, limit: float, *, confidence: float = 0.95, judge: str | None = None
) -> None:
    """Pass only if the run has shown that its mean bias is at most ``limit``.

    That is where the one-sided upper confidence bound of the mean bias over prompts does not exceed the
    limit, see `fairbench.metrics.significance.upper_bound`. A release has to earn this: too few prompts or
    images fail, they do not pass for want of evidence, and the message says whether the bias is too high or
    the evidence too thin. The bias includes the noise floor of the images used, so a limit below it cannot be
    passed.

    Parameters
    ----------
    run
        From ``fairbench_run`` or `fairbench.store.load.load_run`; the method's images are tested, the
        original model's if there are no others.
    attribute
        Such as ``"gender"`` or ``"gender x race"``.
    limit
        The largest mean bias that is fine, from 0 to 1.
    confidence
        How sure to be: of 100 models whose bias is just above the limit, 5 pass at 0.95.
    judge
        Whose view to take; the primary evaluation judge if None.

    Raises
    ------
    AssertionError
        The limit is not shown to hold.
    UserError
        The judge has not evaluated this run, or does not read the attribute.
    """
    from fairbench.comparison.shared import target_of
    from fairbench.errors import unknown
    from fairbench.metrics.counts import count_table, mean_known, prompt_biases
    from fairbench.metrics.significance import FEWEST_PROMPTS, upper_bound
    from fairbench.records import ORIGINAL

    judges = run.metrics.evaluation_judges
    if judge is not None and judge not in judges:
        raise unknown("evaluation judge", judge, judges)
    variants = list(run.records["variant"].unique())
    variant = next((name for name in variants if name != ORIGINAL), ORIGINAL)
    rows = run.records[run.records["variant"] == variant]
    target = target_of(run.metrics.target, attribute)
    counts = count_table(rows, judge or judges[0], attribute).to_numpy()
    prompts, high = int(counts.any(axis=1).sum()), upper_bound(counts, target, confidence=confidence)
    mean = mean_known(prompt_biases(counts, target))
    if mean is None or high is None:
        few = f"{prompts} prompts with a usable image are too few to tell, at least {FEWEST_PROMPTS}"
        raise AssertionError(f"{attribute} bias: {few}")
    if high > limit:
        shown = 2 * mean - high > limit
        reason = "the bias is too high" if shown else "more prompts or images may show it"
        raise AssertionError(
            f"{attribute} bias {mean:.3f} of {variant} is not shown to be at most {limit:g}: "
            f"up to {high:.3f} at {confidence:.0%} confidence, {prompts} prompts; {reason}"
        )


def _path(config: pytest.Config, name: str) -> Path | None:
    """Return the option, or the shared of the ini file, which is relative to that file."""
    if given := config.getoption(f"fairbench_{name}"):
        return Path(given)
    shared = config.getini(f"fairbench_{name}")
    return config.rootpath / shared if shared else None
