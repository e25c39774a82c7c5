"""``fairbench plan``: how much to generate before two runs can be told apart."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fairbench.store.load import StoredRun

PROMPTS = (10, 20, 50, 100, 200)
SUITE = 50
"""Test prompts of the default suite."""


def plan(
    detect: Annotated[float, typer.Option(min=0, max=1, help="The change of the mean bias to detect.")],
    power: Annotated[float, typer.Option(min=0.06, max=0.99, help="The chance to detect it.")] = 0.8,
    pilot: Annotated[Path | None, typer.Option(help="A finished run that shows what to expect.")] = None,
    attribute: Annotated[
        str | None,
        typer.Option(help='Such as "race" or "gender x race".', show_default="the pilot's, or gender"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how many prompts, images and minutes it takes to tell a change of bias from noise."""
    from fairbench.attributes import AttributeSpace
    from fairbench.cli.output import print_json, print_table, print_text
    from fairbench.metrics.counts import count_table
    from fairbench.metrics.power import imagined_prompts, simulated_power
    from fairbench.metrics.power import plan as plan_designs
    from fairbench.records import PRODUCT
    from fairbench.store.load import load_run

    stored = load_run(pilot) if pilot else None
    name = attribute or (stored.metrics.attributes[0] if stored else "gender")
    space = AttributeSpace.parse(name.split(PRODUCT))
    counts = None
    if stored:
        first = stored.records["variant"] == stored.records["variant"].iloc[0]
        counts = count_table(stored.records[first], stored.metrics.primary_judge, PRODUCT.join(space.names))
    world = imagined_prompts(space.size, counts)
    usual = SUITE if counts is None else len(counts)
    designs = plan_designs(world, detect, power, sorted({*PROMPTS, usual}))
    seconds = _seconds_per_image(stored) if stored else None
    rows = [
        {
            "prompts": design.prompts,
            "images_per_prompt": design.images,
            "images": design.images and design.images * design.prompts,
            "minutes": design.images and seconds and design.images * design.prompts * seconds / 60,
        }
        for design in designs
    ]
    chosen = next(design for design in designs if design.prompts == usual)
    simulated = simulated_power(world, detect, chosen) if chosen.images else None
    if as_json:
        print_json(
            {
                "detect": detect,
                "power": power,
                "pilot": pilot and str(pilot),
                "attribute": PRODUCT.join(space.names),
                "designs": rows,
                "simulated": {"prompts": usual, "images_per_prompt": chosen.images, "power": simulated},
            }
        )
        return
    print_text(
        f"to detect a change of {detect:g} in {PRODUCT.join(space.names)} bias with power {power:g}, per run:"
    )
    print_table(
        ("prompts", "images per prompt", "images", "minutes"),
        [
            (
                row["prompts"],
                row["images_per_prompt"] or "never enough",
                row["images"] or "",
                "" if row["images"] is None else f"{row['minutes']:.1f}" if row["minutes"] else "unknown",
            )
            for row in rows
        ],
    )
    if seconds is None:
        print_text("minutes are unknown without a pilot that generated images: give one with --pilot")
    if stored is None:
        print_text("without a pilot, prompts are taken to be of any distribution, each equally likely")
    if simulated is not None:
        print_text(f"simulated power with {usual} prompts, {chosen.images} images each: {simulated:.2f}")


def _seconds_per_image(run: "StoredRun") -> float | None:
    """Return what one image took to generate and judge, as the run measured it."""
    stages = run.provenance.seconds
    spent = {name: took for name, took in stages.items() if name.endswith("images") or name == "judging"}
    return sum(spent.values()) / len(run.records) if any(name != "judging" for name in spent) else None
