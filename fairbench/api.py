"""What Python users call: the commands as functions, and a finished run with its tables and pictures.

`fairbench.__all__` names all of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from fairbench.comparison.compare import compare as compare_runs
from fairbench.config import RunConfig, make_config, named
from fairbench.errors import UserError
from fairbench.models.generators import FunctionModel
from fairbench.runs.evaluate import evaluate_as_asked, evaluation
from fairbench.store import load, results
from fairbench.store.layout import RunDirectory, default_directory
from fairbench.store.load import StoredRun

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from fairbench.progress import Progress

METHOD = RunConfig.model_fields["method"].default


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
        """Return one row per variant and attribute: the bias with its interval and floor, and its test.

        Examples
        --------
        >>> import fairbench
        >>> found = fairbench.load_run("runs/example")
        >>> found.to_frame()[["method", "attribute"]].values.tolist()[0]
        ['original', 'gender']
        """
        from fairbench.report.tables import bias_frame

        return bias_frame(self.metrics)

    def plot(self, attribute: str | None = None, label: str | None = None) -> Image:
        """Return a picture of how often a class is seen, prompt by prompt, before and after.

        Parameters
        ----------
        attribute
            The first one that the run set out to balance if None.
        label
            The class; the attribute's last one if None.

        Raises
        ------
        UserError
            The judge does not read the attribute, or there is no such class.

        Examples
        --------
        >>> import fairbench
        >>> fairbench.load_run("runs/example").plot("race", label="Indian").format
        'PNG'
        """
        from PIL import Image

        from fairbench.report.plots import dumbbell

        chosen = attribute or self.metrics.attributes[0]
        with TemporaryDirectory(prefix="fairbench-") as folder:
            path = Path(folder) / "plot.png"
            dumbbell(self.records, path, self.metrics, attribute=chosen, label=label)
            picture = Image.open(path, formats=["PNG"])
            picture.load()
        return picture

    def __repr__(self) -> str:
        metrics = self.metrics
        images = f"{len(self.records)} images"
        return f"<Run {self.path}: {metrics.method} on {metrics.model}, {metrics.suite}, {images}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from fairbench.report.live import in_notebook
        from fairbench.report.tables import before_after

        return in_notebook(before_after(self.metrics))


class Comparison(results.Comparison):
    """Runs side by side, which a notebook shows as its tables."""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per attribute and run: facts, the bias with its tests, and quality.

        Examples
        --------
        >>> import fairbench
        >>> found = fairbench.compare(["runs/example"]).to_frame()
        >>> found[["name", "attribute"]].values.tolist()
        [['original', 'gender'], ['hard_prompt', 'gender']]
        """
        from fairbench.report.comparison import comparison_frame

        return comparison_frame(self)

    def __repr__(self) -> str:
        return f"<Comparison of {', '.join(f'{run.label} {run.name}' for run in self.runs)}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from fairbench.report.comparison import lay_out
        from fairbench.report.live import in_notebook

        return in_notebook(lay_out(self))


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
    method: str = METHOD,
    *,
    model: Any = None,
    out: Path | str | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    pictures: bool = True,
    **settings: Any,
) -> Run:
    """Debias a model, and measure it before and after on prompts it never saw.

    The same call again goes on where an interrupted one stopped, and returns at once when the run is done.
    What goes wrong while a method trains is a Python warning.

    Parameters
    ----------
    method
        As on the command line: ``"biased_dft"`` or ``"biased_dft[rank=8]"``.
    model
        Likewise, such as ``"portraits"`` or ``"portraits[scheduler=ddim]"``; or what `load_model` returned.
    out
        Directory of the run; below ``./runs`` if None.
    fresh
        Begin anew and replace the run that is in ``out``.
    progress
        Told ``(stage, done, total)``; bars in a terminal or a notebook if None.
    pictures
        Whether to draw the pictures of the run into its directory.
    **settings
        Of `fairbench.config.RunConfig`, such as ``suite``, ``attributes``, ``target``, ``updates``,
        ``images_per_prompt``, ``seed``, ``judges``, ``training_judge``, ``features``.

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
    if "images" in settings:
        raise UserError("images: run makes them; evaluate measures images that are there")
    chosen, given = _model(model, None)
    config = make_config(_joined(named("method", _text("method", method)), chosen, _plain(settings)))
    return _finished(config, out, fresh, progress, pictures, given)


def evaluate(
    generate: Any = None,
    *,
    images: Path | str | None = None,
    run: StoredRun | Path | str | None = None,
    name: str | None = None,
    out: Path | str | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    pictures: bool = True,
    **settings: Any,
) -> Run:
    """Measure a generator, images that are there, or a run as others see it; nothing is trained.

    Parameters
    ----------
    generate
        From N prompts and N seeds to N images: N x 3 x H x W floats in [0, 1], N x H x W x 3 bytes, or a list
        of either or of Pillow images. Or the name of a model, or what `load_model` returned.
    images
        A folder or a table of images, see docs/evaluating.md.
    run
        A finished run, or its directory: its images are judged again, or with ``suite`` its method makes new
        ones.
    name
        What results call the generator, or what made the images; its own name unless given. It stands for the
        generator: the same name in the same directory goes on with the images that are there.
    out, fresh, progress, pictures
        As in `run`.
    **settings
        Of `fairbench.config.RunConfig`: ``suite``, ``judges`` (needed unless the model brings its own),
        ``attributes``, ``target``, ``features``, ``images_per_prompt``, ``test_prompts``, ``seed``,
        ``until_width``; of given images ``draw_class``.

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
    for key in ("method", "method_options", "adapter"):
        if key in settings:
            raise UserError(f"{key}: evaluate trains nothing and changes no model: leave it out")
    if [generate, images, run].count(None) != 2:
        raise UserError("give one thing to measure: a generator, images or a run")
    place = run.path if isinstance(run, StoredRun) else run
    chosen, given = ({"model": name} if name else {}, None) if images else _model(generate, name)
    where = [None if each is None else Path(each) for each in (place, images)]
    config = evaluation(where[0], chosen, where[1], _plain(settings))
    return _finished(config, out, fresh, progress, pictures, given)


def compare(
    runs: StoredRun | Path | str | Sequence[StoredRun | Path | str],
    *,
    attributes: str | Sequence[str] | None = None,
    unpaired: bool = False,
    margins: Mapping[str, float] | None = None,
) -> Comparison:
    """Compare the methods of ``runs`` and their original models, prompt by prompt.

    Parameters
    ----------
    runs
        One with two variants, or several; loaded ones or their directories.
    attributes
        Such as ``"gender,gender x race"``, or a list of them; what all the runs set out to balance if None.
    unpaired
        Compare runs of different suites all the same, by unpaired tests.
    margins
        Measure -> what counts as unchanged, such as ``{"clip_t": 0.01}``.

    Raises
    ------
    UserError
        There is nothing to compare, no prompt to pair by, or a run would be judged by the judge it learnt
        from.

    Examples
    --------
    >>> import fairbench
    >>> found = fairbench.compare("runs/example")
    >>> [run.name for run in found.runs], found.prompts
    (['original', 'hard_prompt'], 2)
    """
    several = [runs] if isinstance(runs, StoredRun | Path | str) else list(runs)
    if not several:
        raise UserError("give at least one run to compare")
    loaded = [each if isinstance(each, StoredRun) else load.load_run(each) for each in several]
    names = attributes if attributes is None or isinstance(attributes, str) else ",".join(attributes)
    found = compare_runs(loaded, attributes=names, unpaired=unpaired, margins=margins)
    return Comparison(**dict(found))


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UserError(f"{what} {value!r}: give its name, as text")
    return value


def _model(given: Any, name: str | None) -> tuple[dict[str, Any], Any]:
    """Return the settings that name a model, and what takes its place: a loaded one, or a function."""
    if given is None or isinstance(given, str | Path):
        return named("model", None if given is None else str(given)), None
    if callable(given):
        model = FunctionModel(given, name)
        return {"model": model.name}, model
    if not hasattr(given, "generate"):
        raise UserError(f"{given!r} makes no images: give a function of prompts and seeds, or a model's name")
    return {"model": str(name or getattr(given, "name", type(given).__name__))}, given


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with paths as text."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}


def _joined(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Put settings together that must not contradict each other."""
    joined: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            if joined.get(key):
                raise UserError(f"{key} is given twice: in brackets behind the name, and by itself")
            joined[key] = value
    return joined


def _finished(
    config: RunConfig,
    out: Path | str | None,
    fresh: bool,
    progress: Progress | None,
    pictures: bool,
    model: Any,
) -> Run:
    """Carry out what ``config`` says, and read it back."""
    place = Path(out) if out else default_directory(config)
    if model is not None and RunDirectory(place).finished and not fresh:
        warnings.warn(
            f"{place} holds what {config.model} made before, and that is returned: fresh=True makes it anew",
            stacklevel=3,
        )
    options: dict[str, Any] = {"fresh": fresh}
    if not config.images:
        options |= {"model": model, "warn": partial(warnings.warn, stacklevel=2)}
    if pictures:
        from fairbench.report.pictures import paint

        options["paint"] = paint
    with _watched(progress) as tell, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the libraries, to their own callers
        evaluate_as_asked(config, place, progress=tell, **options)
    return load_run(place)


@contextmanager
def _watched(progress: Progress | None) -> Iterator[Callable[[str, int, int], None]]:
    """Yield who is told: whoever is named, else bars where somebody sees them."""
    if progress:
        yield progress
        return
    from rich.console import Console

    from fairbench.report.live import live_progress

    seen = Console(stderr=True)
    with live_progress(quiet=not (seen.is_terminal or seen.is_jupyter)) as tell:
        yield tell
