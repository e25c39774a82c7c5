"""What every method must keep to, tried on the embedded model: ours, and a third party's alike.

A clause passes, fails with what was found, or is skipped with the reason why it does not apply.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, get_args

from fairbench.draws import Draw
from fairbench.errors import one_line
from fairbench.intervention import DrawClass, lacking, part
from fairbench.intervention_files import load_intervention, save_intervention
from fairbench.plugins.trial import IMAGES, Inapplicable, Trial, World, fingerprint

if TYPE_CHECKING:
    from torch import Tensor


SAME = 1 / 255
"""Two pictures closer than this in every pixel are the same; rounding may differ between batch sizes."""


@dataclass(frozen=True)
class Clause:
    """One thing that a method must keep to, and how it went."""

    name: str
    outcome: Literal["passed", "failed", "skipped"]
    detail: str = ""


class Broken(Exception):
    """A clause that does not hold; the message says what was found."""


def contract(
    method: type, world: World, options: Mapping[str, Any] | None = None, *, attributes: str = "gender"
) -> Iterator[Clause]:
    """Try ``method`` clause by clause.

    Parameters
    ----------
    method
        Its class. A class variable ``quick`` may hold options with which it fits in seconds, and ``neutral``
        those with which it changes nothing.
    world
        What to try it on.
    options
        Further options; they win over ``quick``.
    attributes
        What it is to balance.

    Raises
    ------
    UserError
        An option is unknown or out of range.
    """
    with TemporaryDirectory(prefix="fairbench-") as directory:
        trial = Trial(method, world, options or {}, attributes, Path(directory))
        for name, check in CLAUSES.items():
            yield _tried(name, check, trial)


def _tried(name: str, check: Callable[[Trial], str], trial: Trial) -> Clause:
    try:
        return Clause(name, "passed", check(trial))
    except Inapplicable as reason:
        return Clause(name, "skipped", str(reason))
    except Broken as found:
        return Clause(name, "failed", str(found))
    except Exception as error:  # whatever a method raises, the other clauses are still to be tried
        return Clause(name, "failed", one_line(error, named=True))


def _interface(trial: Trial) -> str:
    method = trial.method
    if missing := lacking(method):
        raise Broken(f"lacks {', '.join(missing)}")
    draw_class = trial.made({}).draw_class
    if draw_class not in get_args(DrawClass):
        raise Broken(f"draw_class is {draw_class!r}, not one of {', '.join(get_args(DrawClass))}")
    if list(inspect.signature(method.apply).parameters) != ["self", "intervention", "model", "draw"]:
        raise Broken("apply does not take (self, intervention, model, draw)")
    if method.Config.model_config.get("extra") != "forbid":
        raise Broken('Config takes unknown options: set extra="forbid"')
    return draw_class


def _documented(trial: Trial) -> str:
    text = inspect.getdoc(trial.method) or ""
    wanted = {
        "an equation (:math:)": r":math:`|\.\. math::",
        "'Source:'": r"^Source:",
        "'Limits:'": r"^Limits:",
    }
    missing = [what for what, pattern in wanted.items() if not re.search(pattern, text, re.MULTILINE)]
    if missing:
        raise Broken(f"the docstring of {trial.method.__name__} has no {', no '.join(missing)}")
    return ""


def _fits(trial: Trial) -> str:
    method, intervention = trial.fitted
    said, kept = (method.name, method.draw_class), (intervention.method, intervention.draw_class)
    if said != kept:
        raise Broken(f"the intervention is of {kept}, the method {said}")
    return f"{sum(tensor.numel() for tensor in intervention.tensors.values())} numbers learnt"


def _generates(trial: Trial) -> str:
    pictures = trial.pictures
    if pictures.shape != trial.original.shape or not pictures.isfinite().all():
        raise Broken(f"pictures of the shape {tuple(pictures.shape)}, or not finite")
    return f"largest change of a pixel {_distance(pictures, trial.original):.3f}"


def _deterministic(trial: Trial) -> str:
    import torch

    torch.manual_seed(1)  # nobody may rely on the state of the global generator
    return _same(trial.generate(*trial.fit("again")), trial.pictures, "fitting and generating again")


def _batch(trial: Trial) -> str:
    if trial.made({}).draw_class == "coupled":
        raise Inapplicable("a batch is balanced together")
    for size in (1, 2):
        _same(trial.generate(*trial.fitted, batch_size=size), trial.pictures, f"batches of {size}")
    return ""


def _draws(trial: Trial) -> str:
    draw_class = trial.made({}).draw_class
    if draw_class == "coupled":
        raise Inapplicable("a batch is balanced together")
    first, last = (
        trial.generate(
            *trial.fitted, draw=Draw("iid", tuple(float(k == only) for k in range(trial.space.size)))
        )
        for only in (0, trial.space.size - 1)
    )
    if draw_class == "emergent":
        return _same(first, last, "another draw")
    if _distance(first, last) <= SAME:
        raise Broken("another drawn class gives the same pictures")
    return ""


def _untouched(trial: Trial) -> str:
    method, intervention = trial.fitted
    _unchanged(trial, "fit")
    trial.generate(method, intervention)
    _unchanged(trial, "apply")
    with suppress(KeyboardInterrupt), method.apply(intervention, trial.world.model, trial.draw):
        raise KeyboardInterrupt
    _unchanged(trial, "an interrupted apply")
    afterwards = trial.world.model.generate(trial.prompts, range(IMAGES))
    return _same(afterwards, trial.original, "the original model afterwards")


def _unchanged(trial: Trial, what: str) -> None:
    if fingerprint(trial.world.model) != trial.fingerprint:
        raise Broken(f"{what} leaves weights, tokens or hooks behind in the model")


def _reloads(trial: Trial) -> str:
    method, intervention = trial.fitted
    save_intervention(intervention, trial.directory / "saved")
    loaded = load_intervention(trial.directory / "saved")
    return _same(trial.generate(method, loaded), trial.pictures, "saved and loaded")


def _neutral(trial: Trial) -> str:
    neutral = part(trial.method, "neutral")
    if neutral is None:
        raise Inapplicable("declares no options under which it changes nothing (neutral)")
    pictures = trial.generate(*trial.fit("neutral", **neutral))
    return _same(pictures, trial.original, f"{neutral or 'the method'} against the original")


CLAUSES: dict[str, Callable[[Trial], str]] = {
    "has the interface of a method": _interface,
    "states equation, source and limits": _documented,
    "fits": _fits,
    "generates": _generates,
    "is deterministic": _deterministic,
    "is independent of the batch size": _batch,
    "follows the draw, or ignores it": _draws,
    "leaves the model untouched": _untouched,
    "saves and reloads to the same pictures": _reloads,
    "without strength equals the original": _neutral,
}


def _distance(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max())


def _same(ours: Tensor, theirs: Tensor, what: str) -> str:
    if (distance := _distance(ours, theirs)) > SAME:
        raise Broken(f"{what}: pictures differ by up to {distance:.3f}")
    return f"up to {distance:.0e}"
