"""results/gpu/: what the measuring script counts, compares and writes, tried out on the CPU."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

GPU = Path(__file__).parents[1] / "results" / "gpu"
PARTS = ["right", "main", "sd15", "judges"]
STUB = """
import json, os, sys, time
from pathlib import Path

name, into = sys.argv[1], Path(sys.argv[2])
before = Path(__file__).with_name("card-no-1.json")
found = {
    "machine": {"device": DEVICE, "card": {"name": "Card (No. 1)"}},
    "right": {"one": 1},
    "main": {},
    "sd15": {"first": {"error": "it broke"}, "second": 2},
    "judges": {"before": list(json.loads(before.read_text())["parts"])} if name == "judges" else {},
}
into.write_text(json.dumps(found[name]))
if name == "right":
    time.sleep(60)
if name == "main":
    print("no memory", flush=True)
    os._exit(7)
"""


@pytest.fixture
def module(monkeypatch):
    """Import modules of the folder by their names, and forget them afterwards."""
    monkeypatch.syspath_prepend(GPU)
    known = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - known:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == GPU:
            del sys.modules[name]


@pytest.fixture
def stub(module, monkeypatch, tmp_path):
    """The script with parts that do not measure anything."""

    def ready(device):
        (tmp_path / "part.py").write_text(STUB.replace("DEVICE", repr(device)))
        measure = module("measure")
        monkeypatch.setattr(measure, "HERE", tmp_path)
        return measure

    return ready


@pytest.fixture
def table(module, monkeypatch, tmp_path):
    (tmp_path / "README.md").write_text("a\n<!-- tables -->\nold\n<!-- end of tables -->\nb\n")
    table = module("table")
    monkeypatch.setattr(table, "HERE", tmp_path)
    return table


def rows(page):
    """Return the cells of every row by its first one."""
    lines = [line[2:-2].split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return {line[0]: line[1:] for line in lines}


def run_part(name, into, path=()):
    command = [sys.executable, str(GPU / "part.py"), name, str(into), "--tiny"]
    places = [*map(str, path), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        command, env=os.environ | {"PYTHONPATH": os.pathsep.join(places)}, capture_output=True, text=True
    )


@pytest.mark.slow
def test_everything_is_measured_on_the_cpu_with_small_numbers(tmp_path, table):
    out = tmp_path / "cpu.json"
    command = [sys.executable, str(GPU / "measure.py"), "--tiny", "--out", str(out)]
    command += [word for part in PARTS for word in ("--limit", f"{part}=500")]  # a busy machine is no fault
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == [*PARTS, str(out)]
    record = json.loads(out.read_text())
    assert record["tiny"] and record["machine"]["card"] == {"name": "cpu"}
    assert torch.__version__.startswith(record["machine"]["packages"]["torch"])
    right, main, sd15, judges = (record["parts"][part] for part in PARTS)

    # the device is the CPU itself
    same = {"largest": 0, "mean": 0, "share": 0}
    assert right["pictures, float32, against the CPU"] == same
    assert right["pictures, float32, batch 2 against 2"] == {"pictures": 4, **same}
    assert right["pictures, float32, batch 1 against 2"]["largest"] <= 1
    assert right["judge portraits-eval-c"] == {"largest": 0, "same_class": 1}
    assert right["features clip-train"]["largest_relative"] == 0
    assert right["features clip-train"]["least_cosine"] == pytest.approx(1, abs=1e-6)
    assert right["expected targets"] == {"largest": 0, "same_labels": True}
    assert right["gradient, float32"] == {"update_1": 0, "update_2": 0}
    assert right["training, resumed"] == {"resumed_with_update": 3, "resumed": 0, "repeated": 0}

    update = main["mean update"]
    assert update["updates"] == 2
    assert 0 < update["seconds_sampling"] + update["seconds_gradient"] < update["seconds"]
    stages = main["seconds by stage"]
    assert update["seconds"] < stages["finetuning"] < main["whole"]["seconds"] < main["seconds"]
    assert main["whole"]["peak_gb"] > 0.1 and main["whole"]["peak_gpu_gb"] is None
    low, high = main["biased_dft"]["interval"]
    assert low <= main["biased_dft"]["bias"] <= high and 0 < main["original"]["floor"] < 1
    assert main["original"]["clip_i"] is None and 0 < main["biased_dft"]["clip_i"] <= 1

    made = [sd15[f"{maker}, batch {batch}"] for maker in ("diffusers", "generate") for batch in (1, 2)]
    assert all(facts["finite"] and facts["pictures_per_second"] > 0 for facts in made)
    every, few, authors = (
        sd15[f"update, {name}"] for name in ("all 2 steps learn", "1 of 2 steps learn", "the authors")
    )
    assert every["images"] == few["images"] == authors["images"] == 6
    assert few["tflop"] < every["tflop"] < authors["tflop"]
    for facts in (every, few, authors):
        spent = facts["tflop"] / facts["seconds"] / sd15["matrix product"]["tflops"]
        assert facts["utilisation"] == pytest.approx(spent)
    operations = sd15["where its time goes"]["operations"]
    assert len(operations) == 20 and any("conv" in entry["name"] for entry in operations)
    assert 0.5 < sum(entry["share"] for entry in operations) <= 1
    assert sd15["generate, batch 2, compiled"]["finite"]

    assert all(facts["finite"] for name, facts in judges.items() if "batch" in name)
    assert judges["faces, YuNet on the CPU"] == "not measured: name its ONNX file with --yunet"

    table.main([])
    written = rows((tmp_path / "README.md").read_text())
    assert written["gradient, float32"] == ["update 1 0, update 2 0"]
    assert written[operations[0]["name"]] == [str(operations[0]["calls"]), f"{operations[0]['share']:.3g}"]


def test_a_part_that_fails_leaves_its_error_and_the_others_go_on(stub, tmp_path, capsys):
    code = stub("cuda").main(["--limit", "right=5"])
    record = json.loads((tmp_path / "card-no-1.json").read_text())
    right, main, sd15, judges = (record["parts"][part] for part in PARTS)
    assert code == 1 and not record["tiny"]
    assert right["error"] == "stopped after 5 s" and right["one"] == 1 and 5 <= right["seconds"] < 60
    assert main["error"] == "ended with code 7: no memory"
    assert sd15["first"] == {"error": "it broke"} and sd15["second"] == 2 and "error" not in sd15
    assert judges["before"] == ["right", "main", "sd15"]  # written after every part
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("; stopped after 5 s") and said[2].endswith("; first: it broke")
    assert "1 of 4 parts without a fault" in said[4] and len(said) == 5


def test_without_a_card_only_small_numbers_are_measured(stub, tmp_path, capsys):
    measure = stub("cpu")
    assert measure.main([]) == 2
    assert capsys.readouterr().err == (
        "measure.py: there is no CUDA device; --tiny tries the script out on the CPU\n"
    )
    assert not list(tmp_path.glob("*.json"))
    assert measure.main(["--tiny", "--parts", "sd15"]) == 1  # one of its steps failed
    assert json.loads((tmp_path / "card-no-1-tiny-sd15.json").read_text())["parts"].keys() == {"sd15"}


def test_what_is_not_the_whole_has_a_file_of_its_own(module):
    measure = module("measure")

    def name(device, *arguments):
        machine = {"device": device, "card": {"name": "NVIDIA H100 80GB HBM3" if device == "cuda" else "cpu"}}
        return measure.stem(machine, measure._options(arguments))

    assert name("cuda") == "nvidia-h100-80gb-hbm3"
    assert name("cuda", "--tiny") == "nvidia-h100-80gb-hbm3-tiny"
    assert name("cuda", "--parts", "sd15,judges") == "nvidia-h100-80gb-hbm3-sd15-judges"
    assert name("cpu", "--tiny") == "cpu-tiny"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--parts", "sd21"], "there is no part sd21; there are right, main, sd15, judges"),
        (["--limit", "sd21=3"], "there is no part sd21"),
        (["--limit", "sd15"], "write a limit like --limit sd15=300"),
        (["--limit", "sd15=-5"], "a limit is a number of seconds above 0"),
        (["--out", "."], "--out .: name a file"),
        (["--out", "nowhere/x.json"], "name a file in a folder that is there"),
        (["--yunet", "nosuch.onnx"], "--yunet nosuch.onnx: there is no such file"),
    ],
)
def test_a_mistake_is_told_before_anything_is_measured(module, wrong, message, capsys):
    with pytest.raises(SystemExit) as left:
        module("measure").main(wrong)
    assert left.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"), [("{", "Expecting"), ("{}", "is not a file of measure.py"), ("[]", "is not")]
)
def test_a_file_that_the_script_did_not_write_is_named(table, tmp_path, capsys, text, message):
    (tmp_path / "broken.json").write_text(text)
    assert table.main([]) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith(f"table.py: {tmp_path / 'broken.json'}: ")
        and message in said
        and said.count("\n") == 1
    )
    assert "old" in (tmp_path / "README.md").read_text()


def test_the_limits_leave_time_within_eight_minutes(module):
    measure = module("measure")
    assert list(measure.LIMITS) == PARTS
    assert sum(measure.LIMITS.values()) <= 460
    assert sum(measure.LIMITS.values()) + measure.MACHINE_LIMIT <= 480


def test_a_part_keeps_what_it_found_before_an_error(tmp_path):
    (tmp_path / "broken.py").write_text(
        "def fails():\n    raise OSError('one\\n two')\n\n\n"
        "def measure(options):\n    yield 'one', {'value': float('nan'), 'tiny': options.tiny}\n"
        "    yield 'two', fails\n    yield 'three', lambda: [3]\n    raise ValueError('the end')\n"
    )
    done = run_part("broken", tmp_path / "found.json", [tmp_path])
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == {
        "one": {"value": "nan", "tiny": True},
        "two": {"error": found["two"]["error"]},
        "three": [3],
        "error": found["error"],
    }
    assert found["two"]["error"].startswith("OSError: one two (part.py:")
    assert found["error"].startswith("ValueError: the end (part.py:")
    assert "in fails" in done.stderr  # where it comes from is in the log


def test_operations_are_those_of_a_hand_count(module):
    cost = module("cost")
    images = torch.rand(2, 3, 8, 8)
    convolution, linear = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4 * 36, 5)
    convolved, product = 2 * (2 * 4 * 36) * (3 * 9), 2 * 2 * 144 * 5  # a multiply-add is two

    def call():
        return linear(convolution(images).flatten(1)).sum()

    assert cost.flops(call) == convolved + product
    with torch.inference_mode():  # whole layers arrive here, not what they are made of
        assert cost.flops(call) == convolved + product
    # backward: of the convolution its weight alone, of the linear layer weight and input
    assert cost.flops(lambda: call().backward()) == 2 * convolved + 3 * product
    convolution.requires_grad_(False)
    images.requires_grad_()  # frozen: the input alone
    assert cost.flops(lambda: call().backward()) == 2 * convolved + 3 * product


def test_operations_of_a_transformer_are_those_that_torch_counts(module):
    cost = module("cost")
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0)
    inputs = torch.rand(2, 5, 16)

    def call():
        layer(inputs).sum().backward()

    with FlopCounterMode(display=False) as counter:
        call()
    assert cost.flops(call) == counter.get_total_flops() > 0


def test_the_largest_operation_is_found(module):
    cost = module("cost")
    large, small = torch.rand(600, 600), torch.rand(4, 4)
    found = cost.operations(lambda: [large @ large, small + 1, small + 1], "cpu")
    assert found[0]["name"] == "aten::mm" and found[0]["calls"] == 1 and found[0]["share"] > 0.5
    shares = [entry["share"] for entry in found]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1)
    assert next(entry["calls"] for entry in found if entry["name"] == "aten::add") == 2


def test_fewer_images_are_taken_where_the_memory_is_too_small(module):
    updates = module("updates")
    tried = []

    def measure(images, most):
        tried.append(images)
        if images > most:
            raise torch.cuda.OutOfMemoryError
        return {"seconds": 1.0}

    assert updates.fitting(lambda images: measure(images, 2), 8) == {"images": 6, "seconds": 1.0}
    assert tried == [8, 4, 2]
    with pytest.raises(torch.cuda.OutOfMemoryError):
        updates.fitting(lambda images: measure(images, 0), 8)


def test_the_networks_have_the_sizes_of_the_real_ones(module):
    """Stable Diffusion v1: an 860M U-Net and a 123M text encoder (README of CompVis/stable-diffusion)."""
    pipeline = module("stable_diffusion").stable_diffusion("meta", False)
    sizes = {name: module("sd15").millions(pipeline, name) for name in ("unet", "text_encoder")}
    assert round(sizes["unet"]) == 860 and round(sizes["text_encoder"]) == 123
    assert pipeline.vae_scale_factor * pipeline.unet.config.sample_size == 512


def test_pictures_are_compared_as_eight_bits(module):
    right = module("right")
    images, others = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    others[0, 0, 0, 0], others[0, 1, 1, 1] = 3 / 255, 0.4 / 255  # the second is rounded to nothing
    assert right.pixel_difference(images, others) == pytest.approx(
        {"largest": 3, "mean": 3 / 12, "share": 1 / 12}
    )


def test_a_training_that_is_not_resumed_is_noticed(module, monkeypatch):
    """Stand-ins learn what they are told, and one of them begins anew after a stop."""
    trainings = module("trainings")

    def fitted(model, directory, settings, updates, log=lambda row: None):
        first = 1 if directory.name != "three" or model == "forgets" or not directory.exists() else 3
        directory.mkdir(exist_ok=True)
        for update in range(first, updates + 1):
            log({"update": update})
        return {"weight": torch.tensor([float(first)])}

    monkeypatch.setattr(trainings, "fitted", fitted)
    assert trainings.resumed_difference("forgets", {})["resumed_with_update"] == 1
    found = trainings.resumed_difference("goes on", {})
    assert found == {"resumed_with_update": 3, "resumed": 2, "repeated": 0}


def test_gradients_are_compared_by_their_norms(module, monkeypatch):
    trainings = module("trainings")
    found = {"cpu": [[3.0, 4.0], [0.0, 1.0]], "card": [[3.0, 4.5], [1.0, 1.0]]}
    monkeypatch.setattr(trainings, "gradients", lambda model, _: list(map(torch.tensor, found[model])))
    assert trainings.gradient_difference("cpu", "card", {}) == pytest.approx({"update_1": 0.1, "update_2": 1})


def test_the_table_has_a_column_for_every_card_and_shows_errors(table, tmp_path):
    entries = [{"name": "aten::mm", "calls": 3, "share": 0.25}]
    first = {
        "tiny": False,
        "machine": {"card": {"name": "A", "memory_gb": 85.9}},
        "parts": {
            "right": {"seconds": 12.5, "targets": {"largest": 0.00012345, "same": True}, "error": "a|b"},
            "sd15": {"where": {"images": 24, "operations": entries}, "rate": {"per_second": 1234.5}},
        },
    }
    second = {
        "tiny": True,
        "machine": {"card": {"name": "cpu"}},
        "parts": {"main": {"interval": [0.1, None]}},
    }
    for name, record in (("a", first), ("cpu", second)):
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    table.main([])
    page = (tmp_path / "README.md").read_text()
    assert page.startswith("a\n<!-- tables -->\n## Measured with\n\n|  | a | cpu, tiny |\n")
    assert page.endswith("<!-- end of tables -->\nb\n") and "old" not in page
    found = rows(page)
    assert found["card"] == ["name A, memory gb 85.9", "name cpu"]
    assert found["seconds"] == ["12.5", "–"] and found["error"] == ["a\\|b", "–"]
    assert found["targets"] == ["largest 0.000123, same yes", "–"]
    assert found["interval"] == ["–", "0.1––"] and found["rate"] == ["per second 1234", "–"]
    assert found["where"] == ["images 24", "–"] and found["aten::mm"] == ["3", "0.25"]
    assert "\nwhere, a:\n" in page and "## Judges" not in page


def test_the_table_says_when_nothing_is_there(table, tmp_path):
    table.main([])
    page = (tmp_path / "README.md").read_text()
    assert page == "a\n<!-- tables -->\nNo card has been measured yet.\n<!-- end of tables -->\nb\n"


def test_the_page_shows_the_files_beside_it(module):
    table = module("table")
    records = {path.stem: json.loads(path.read_text()) for path in sorted(GPU.glob("*.json"))}
    page = (GPU / "README.md").read_text()
    assert f"<!-- tables -->\n{table.page(records)}<!-- end of tables -->" in page


def test_yunet_is_asked_for_by_its_file(module, tmp_path):
    judges = module("judges")
    images = torch.rand(2, 3, 32, 32)
    assert judges.faces(tmp_path / "no.onnx", images).startswith("not measured: ")
    assert [name for name, _ in judges.measure(Namespace(device="cpu", tiny=True, yunet=None))][-1] == (
        "faces, YuNet on the CPU"
    )
