"""The model card of the embedded model: how it was built, what its gates measured, and what it is not."""

from __future__ import annotations

from pathlib import Path

from fairbench.portraits.build.gates import Gate
from fairbench.storage import atomic_write_text

CARD = """# portraits: the embedded model of fairbench

A small Stable Diffusion pipeline (64 x 64 pictures) that the project trains on pictures it draws itself.
It is an instrument for testing measurement and methods: plainly symbolic avatars, and it depicts nobody.
Its bias is declared in `fairbench/portraits/world.yaml`, so that measured bias can be checked against truth.

Built by `python -m fairbench.portraits.build` ({pictures:,} pictures; {steps}).

The shipped weights were trained on a CPU in several sittings, some of which changed the length of a stage
that had begun: building again gives an equivalent model, not the same bits.

## Gates

Measured on generated pictures ({sampling}) by the judge `{judge}`, which took no part in
training the generator.

| gate | measured | needed | |
|---|---|---|---|
{gates}

## Networks beside it, on held-out rendered pictures

| network | measured |
|---|---|
{networks}

## Limits

- Two genders, four race classes and two age classes, as in the literature this project measures; people are
  more than that.
- It knows the roles of `world.yaml` and the words of its captions; other prompts give meaningless pictures.
- 64 x 64 flat drawings: results here show that a measurement or a method works as described, not how large
  an effect is in a large model.
"""


def write_card(
    path: Path,
    gates: list[Gate],
    networks: dict[str, dict[str, float]],
    *,
    pictures: int,
    steps: str,
    sampling: str,
    judge: str,
) -> None:
    """Write the card to ``path``."""
    rows = [
        f"| {g.what} | {g.measured:.3f} | {g.least:.2f} | {'passed' if g.passed else 'not reached'} |"
        for g in gates
    ]
    parts = [
        f"| {name} | {', '.join(f'{key} {value:.3f}' for key, value in values.items())} |"
        for name, values in networks.items()
    ]
    text = CARD.format(
        gates="\n".join(rows),
        networks="\n".join(parts),
        pictures=pictures,
        steps=steps,
        sampling=sampling,
        judge=judge,
    )
    atomic_write_text(path, text)
