"""What the method of a run gets to learn from, in the process that owns the run and in those that help it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fairbench.finetuning.processes import Processes
from fairbench.intervention import FitContext
from fairbench.runs.instruments import Instruments
from fairbench.runs.plan import Plan
from fairbench.runs.training_faces import training_faces

if TYPE_CHECKING:
    from fairbench.judges import Judge


def fit_context(
    plan: Plan, instruments: Instruments, directory: Path, log: Callable[[dict[str, Any]], bool | None]
) -> FitContext:
    """Put together what ``plan.method.fit`` is called with; ``directory`` keeps an unfinished training."""
    return FitContext(
        model=instruments.model,
        prompts=list(plan.training),
        space=plan.space,
        target=plan.target,
        judge=cast("Judge", instruments.training_judge),
        features=list(instruments.training_features),
        updates=plan.updates,
        seed=plan.config.seed,
        directory=directory,
        suite=plan.suite.name,
        suite_version=plan.suite.version,
        log=log,
        faces=training_faces(
            plan.config, instruments.training_judge, instruments.training_features, plan.training
        ),
    )


def help_to_fit(plan: Plan, instruments: Instruments, directory: Path, processes: Processes) -> None:
    """Take part in the training of the first process, which does everything else, until it is done."""
    while processes.called():
        plan.method.fit(fit_context(plan, instruments, directory, lambda row: None))
