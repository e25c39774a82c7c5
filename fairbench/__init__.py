"""Measure and remove demographic bias in text-to-image diffusion models.

Importing this package loads nothing heavy: every name is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairbench.alignment.loss import alignment_loss
    from fairbench.alignment.targets import expected_targets
    from fairbench.api import compare, evaluate, load_run, run
    from fairbench.errors import UserError
    from fairbench.judges import load_judge
    from fairbench.metrics.bias import bias
    from fairbench.metrics.gap import gap_estimate as gap
    from fairbench.models.loading import load_model
    from fairbench.plugins.registry import list_methods
    from fairbench.scoring.score import score

    __version__: str

__all__ = [
    "UserError",
    "__version__",
    "alignment_loss",
    "bias",
    "compare",
    "evaluate",
    "expected_targets",
    "gap",
    "list_methods",
    "load_judge",
    "load_model",
    "load_run",
    "run",
    "score",
]

_PLACES = {
    "UserError": "fairbench.errors:UserError",
    "alignment_loss": "fairbench.alignment.loss:alignment_loss",
    "bias": "fairbench.metrics.bias:bias",
    "compare": "fairbench.api:compare",
    "evaluate": "fairbench.api:evaluate",
    "expected_targets": "fairbench.alignment.targets:expected_targets",
    "gap": "fairbench.metrics.gap:gap_estimate",
    "list_methods": "fairbench.plugins.registry:list_methods",
    "load_judge": "fairbench.judges:load_judge",
    "load_model": "fairbench.models.loading:load_model",
    "load_run": "fairbench.api:load_run",
    "run": "fairbench.api:run",
    "score": "fairbench.scoring.score:score",
}
"""Name -> module and what it is called there; type checkers read the imports above."""

if not TYPE_CHECKING:  # else any name would pass a type checker

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version("fairbench-t2i")
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        module, _, called = _PLACES[name].partition(":")
        return getattr(import_module(module), called)


def __dir__() -> list[str]:
    return sorted(__all__)
