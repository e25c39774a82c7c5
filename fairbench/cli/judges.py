"""``fairbench judges``: hold a judge against labelled images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairbench.cli.output import print_json, print_table, print_text

if TYPE_CHECKING:
    from fairbench.judges import Judge
    from fairbench.judges.labelled import Labelled

app = typer.Typer(help="Hold a judge against labelled images.", no_args_is_help=True)


@app.callback()
def _judges() -> None:
    """Keep ``check`` a command of its own: typer would merge a single one into the group."""


@app.command("check")
def check(
    judge: Annotated[str, typer.Argument(help="A judge's name, its directory, or a judge file (YAML).")],
    images: Annotated[
        Path,
        typer.Option(help="Folder with a folder per class, or CSV with path and a column per attribute."),
    ],
    write: Annotated[
        bool, typer.Option("--write", help="Keep the counts with the judge, for correcting what it measures.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count how often a judge takes one class for another on images whose classes are known."""
    from fairbench.judges import load_judge
    from fairbench.judges.confusion import write_confusion
    from fairbench.judges.labelled import read_labelled

    loaded = load_judge(judge)
    labelled = read_labelled(images, loaded.attributes)
    found, counts = _measured(loaded, labelled)
    written = write_confusion(judge, loaded, counts) if write else None
    if as_json:
        print_json({**found, "written": written and str(written)})
        return
    print_text(f"judge {found['judge']}: saw a face in {found['faces']} of {found['images']} images")
    for name, entry in found["attributes"].items():
        share = "none" if entry["accuracy"] is None else f"{entry['accuracy']:.3f}"
        print_text(f"\n{name}: accuracy {share} of {entry['images']} images with a face; rows are the truth")
        rows = zip(entry["labels"], entry["confusion"], strict=True)
        print_table(("", *entry["labels"]), [[label, *row] for label, row in rows])
    if written:
        print_text(f"\nkept in {written}{_use(judge, written)}")


def _use(judge: str, written: Path) -> str:
    """Say how to name the copy of a packaged judge, which has the counts."""
    from fairbench.judges import list_judges

    return f"; to use it: --judge ./{written.parent}" if judge in list_judges() else ""


def _measured(judge: "Judge", labelled: "Labelled") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is reported, and the counts per attribute."""
    import numpy as np

    from fairbench.attributes import FACE_THRESHOLD
    from fairbench.judges.confusion import accuracy, confusion_counts
    from fairbench.judges.labelled import batches

    sizes = {name: len(judge.attributes[name]) for name in labelled.labels}
    counts: dict[str, Any] = {name: np.zeros((size, size), dtype=int) for name, size in sizes.items()}
    faces = 0
    for pictures, labels in batches(labelled):
        judgement = judge.judge(pictures)
        faces += int((judgement.face >= FACE_THRESHOLD).sum())
        for name, more in confusion_counts(judgement, labels).items():
            counts[name] += more
    found = {
        "judge": judge.name,
        "sha256": judge.sha256,
        "images": len(labelled.paths),
        "faces": faces,
        "attributes": {
            name: {
                "labels": list(judge.attributes[name]),
                "images": int(matrix.sum()),
                "accuracy": accuracy(matrix),
                "confusion": matrix.tolist(),
            }
            for name, matrix in counts.items()
        },
    }
    return found, counts
