"""What Python users call: the commands as functions, and a finished run with its tables and pictures.

`fairbench.__all__` names all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from fairbench.comparison.compare import compare as compare_runs
from fairbench.config import RunConfig, make_config, spec
from fairbench.models.generators import FunctionModel, Generate
from fairbench.records import ORIGINAL
from fairbench.runs.run import run as run_to_the_end
from fairbench.store import load
from fairbench.store.layout import default_directory
from fairbench.store.load import StoredRun

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from fairbench.progress import Progress
    from fairbench.runs.session import Paint
    from fairbench.store.results import Comparison


class Run(StoredRun):
    """A finished run or evaluation, which a notebook shows as its table.

    Attributes
    ----------
    path
        Its directory.
    config
        Its settings.
    provenance
        Code, machine, inputs and costs.
    records
        One row per image, see `fairbench.records`.
    metrics
        All numbers, see `fairbench.store.results.Metrics`; ``metrics["variants"]`` is ``metrics.variants``.
    """

    def to_frame(self) -> pd.DataFrame:
        """Return one row per variant and attribute, with the bias, its interval and its floor.

        Examples
        --------
        >>> import fairbench
        >>> found = fairbench.load_run("runs/example")
        >>> found.to_frame()[["variant", "attribute"]].values.tolist()[0]
        ['original', 'gender']
        """
        from fairbench.report.tables import bias_frame

        return bias_frame(self.metrics)

    def plot(self, attribute: str | None = None) -> Image:
        """Return a picture of the bias prompt by prompt, before and after.

        Parameters
        ----------
        attribute
            The first one that the run set out to balance if None.

        Raises
        ------
        UserError
            The judge does not read the attribute.

        Examples
        --------
        >>> import fairbench
        >>> fairbench.load_run("runs/example").plot("gender").format
        'PNG'
        """
        from PIL import Image

        from fairbench.report.plots import dumbbell

        attribute = attribute or self.metrics.attributes[0]
        with TemporaryDirectory(prefix="fairbench-") as folder:
            path = dumbbell(self.records, Path(folder) / "plot.png", self.metrics, attribute=attribute)
            picture = Image.open(path)
            picture.load()
        return picture

    def __repr__(self) -> str:
        metrics = self.metrics
        images = f"{len(self.records)} images"
        return f"<Run {self.path}: {metrics.method} on {metrics.model}, {metrics.suite}, {images}>"

    def _repr_mimebundle_(self, include: Sequence[str], exclude: Sequence[str], **_: Any) -> dict[str, str]:
        from fairbench.report.tables import before_after

        return before_after(self.metrics)._repr_mimebundle_(include, exclude)


def load_run(directory: Path | str) -> Run:
    """Read a finished run or evaluation; one of an older schema as if this version had written it.

    Raises
    ------
    UserError
        There is no finished run, a file of it cannot be read, or a newer fairbench wrote it.

    Examples
    --------
    >>> import fairbench
    >>> found = fairbench.load_run("runs/example")
    >>> found.metrics.variants["original"].bias["gender"].prompts
    2
    """
    return Run(**vars(load.load_run(directory)))


def run(
    method: str = RunConfig.model_fields["method"].default,
    *,
    out: Path | str | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    paint: Paint | None = None,
    **settings: Any,
) -> Run:
    """Debias a model, and measure it before and after on prompts it never saw.

    The same call again goes on where an interrupted one stopped, and returns at once when the run is done.

    Parameters
    ----------
    method
        As on the command line: ``"biased_dft"`` or ``"biased_dft[rank=8]"``.
    out
        Directory of the run; below ``./runs`` if None.
    fresh
        Begin anew and replace the run that is in ``out``.
    progress
        Told ``(stage, done, total)``; bars in a terminal or a notebook if None.
    paint
        Draws pictures from directory, records, training log and metrics.
    **settings
        Of `fairbench.config.RunConfig`, such as ``model``, ``suite``, ``attributes``, ``target``,
        ``updates``, ``images_per_prompt``, ``seed``, ``judges``, ``training_judge``, ``features``.

    Raises
    ------
    UserError
        A setting is wrong, or ``out`` cannot hold this run.

    Examples
    --------
    >>> import fairbench
    >>> few = {"test_prompts": 1, "images_per_prompt": 2, "steps": 2}
    >>> found = fairbench.run("hard_prompt", **few)
    >>> list(found.metrics.variants)
    ['original', 'hard_prompt']
    """
    chosen = _specified("method", method) | _specified("model", settings.pop("model", None))
    return _finished(make_config(chosen | settings), out, fresh, progress, paint)


def evaluate(
    generate: Generate | str,
    *,
    suite: str | Path = "occupations",
    name: str | None = None,
    out: Path | str | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    paint: Paint | None = None,
    **settings: Any,
) -> Run:
    """Generate the images of a suite with any generator, and measure them.

    Parameters
    ----------
    generate
        From N prompts and N seeds to N images: N x 3 x H x W floats in [0, 1], N x H x W x 3 bytes, or a list
        of either or of Pillow images. Or the name of a model.
    suite
        The name of a prompt suite, or the path of its YAML file.
    name
        What results call the generator; its own name unless given. It stands for the generator: the same name
        in the same directory goes on with the images that are there.
    out, fresh, progress, paint
        As in `run`.
    **settings
        Of `fairbench.config.RunConfig`: ``judges`` (needed unless the model brings its own), ``attributes``,
        ``target``, ``features``, ``images_per_prompt``, ``test_prompts``, ``seed``, ``until_width``.

    Raises
    ------
    UserError
        A setting is wrong, or what the generator returns are no images.

    Examples
    --------
    >>> import fairbench, numpy
    >>> def grey(prompts, seeds):
    ...     return numpy.full((len(prompts), 64, 64, 3), 128, numpy.uint8)
    >>> few = {"test_prompts": 1, "images_per_prompt": 2}
    >>> found = fairbench.evaluate(grey, judges=["portraits-eval-a"], **few)
    >>> found.metrics.model, len(found.records)
    ('grey', 2)
    """
    model = None if isinstance(generate, str) else FunctionModel(generate, name)
    chosen = {"model": model.name} if model else _specified("model", str(generate))
    config = make_config(settings | chosen | {"method": ORIGINAL, "suite": str(suite)})
    return _finished(config, out, fresh, progress, paint, model)


def compare(
    runs: Sequence[StoredRun | Path | str],
    *,
    attributes: str | None = None,
    unpaired: bool = False,
    margins: Mapping[str, float] | None = None,
) -> Comparison:
    """Compare the methods of ``runs`` and their original models, prompt by prompt.

    Parameters
    ----------
    runs
        One with two variants, or several; loaded ones or their directories.
    attributes, unpaired, margins
        As in `fairbench.comparison.compare.compare`.

    Raises
    ------
    UserError
        There is nothing to compare, no prompt to pair by, or a run would be judged by the judge it learnt
        from.

    Examples
    --------
    >>> import fairbench
    >>> found = fairbench.compare(["runs/example"])
    >>> [run.name for run in found.runs], found.prompts
    (['original', 'hard_prompt'], 2)
    """
    loaded = [each if isinstance(each, StoredRun) else load.load_run(each) for each in runs]
    return compare_runs(loaded, attributes=attributes, unpaired=unpaired, margins=margins)


def _specified(key: str, text: str | None) -> dict[str, Any]:
    """Read ``name[option=value]``, as on the command line."""
    if text is None:
        return {}
    name, options = spec(text)
    return {key: name} | ({f"{key}_options": options} if options else {})


def _finished(
    config: RunConfig,
    out: Path | str | None,
    fresh: bool,
    progress: Progress | None,
    paint: Paint | None,
    model: FunctionModel | None = None,
) -> Run:
    """Carry out what ``config`` says, and read it back."""
    place = Path(out) if out else default_directory(config)
    with _watched(progress) as tell:
        run_to_the_end(config, place, fresh=fresh, progress=tell, paint=paint, model=model)
    return load_run(place)


@contextmanager
def _watched(progress: Progress | None) -> Iterator[Progress]:
    """Yield who is told: whoever is named, else bars where somebody sees them."""
    if progress:
        yield progress
        return
    from rich.console import Console

    from fairbench.report.live import live_progress

    seen = Console(stderr=True)
    with live_progress(quiet=not (seen.is_terminal or seen.is_jupyter)) as tell:
        yield tell
