from rich.console import Console

from fairbench.report.effects import side_effects
from tests.stored_metrics import metrics_of


def share(mean, interval=None):
    return {"mean": mean, "interval": interval, "prompts": 2, "images": 8}


def shown(metrics):
    console = Console(width=120)
    with console.capture() as captured:
        console.print(side_effects(metrics))
    return captured.get()


def test_each_share_stands_beside_that_of_the_original_with_its_test():
    metrics = metrics_of(
        measures="obedience",
        variants={
            "original": {"obedience": {"gender": share(0.75, [0.5, 0.875]), "all": share(0.5)}},
            "method": {"obedience": {"gender": share(0.25)}},
        },
        side_effects={"gender": {"p_value": 0.0312, "difference": -0.5, "prompts": 2}},
    )
    lines = shown(metrics).splitlines()
    gender, everything = (
        next(line for line in lines if line.startswith(start)) for start in ("gender", "all")
    )
    assert gender.split() == ["gender", "0.750", "[0.500,", "0.875]", "0.250", "0.031", "2", "×", "4"]
    assert everything.split() == ["all", "at", "once", "0.500", "–", "–", "2", "×", "4"]


def test_a_suite_of_bias_has_no_such_table():
    assert side_effects(metrics_of(variants={"original": {"bias": {}}})) is None
