from dataclasses import replace

import numpy as np
import pytest
import torch

from fairbench.finetuning.faces import WholePictures
from fairbench.finetuning.semantics import OriginalPictures, factors, preservation_loss
from tests.finetuning.stand_ins import Coarse, ColourJudge, make_context

PICTURES = [("nurse", 1), ("pilot", 1), ("nurse", 2)]


class Painter:
    """Counts what it is asked for; the picture of a seed is the same each time."""

    def __init__(self):
        self.asked = []

    def __call__(self, texts, seeds):
        self.asked += zip(texts, seeds, strict=True)
        noise = [torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(noise)


@pytest.fixture
def context(tmp_path):
    return make_context(tmp_path, model=object(), attributes="gender,race")


def test_every_picture_is_made_once(context):
    painter = Painter()
    originals = OriginalPictures(painter, context, {})
    cpu = torch.device("cpu")
    first = originals.look_up(PICTURES, cpu)
    again = originals.look_up([*reversed(PICTURES), PICTURES[0], ("cook", 5)], cpu)
    assert sorted(painter.asked) == sorted([*PICTURES, ("cook", 5)])
    for name, column in first.items():
        assert torch.equal(again[name][:3], column.flip(0)) and torch.equal(again[name][3], column[0])


class EveryFace(WholePictures):
    """Finds one in every picture, whatever the judge says."""


def test_an_original_without_a_face_has_no_box(context):
    faces = EveryFace(Coarse(), lambda: torch.rand(2, 3, 8, 8))
    dark = lambda texts, seeds: Painter()(texts, seeds) * torch.tensor(seeds).ne(2).view(-1, 1, 1, 1)  # noqa: E731
    seen = OriginalPictures(dark, context, {}, faces).look_up(PICTURES, torch.device("cpu"))
    assert seen["face/box"].tolist() == [[0, 0, 8, 8], [0, 0, 8, 8], [0, 0, 0, 0]]
    assert seen["class/gender"].tolist()[2] == -1


def test_the_table_holds_what_the_networks_see(context):
    seen = OriginalPictures(Painter(), context, {}).look_up(PICTURES, torch.device("cpu"))
    images = Painter()(*zip(*PICTURES, strict=True))
    torch.testing.assert_close(seen["features/coarse"], Coarse()(images))
    for name in ("gender", "race"):
        probabilities = context.judge.logits(images)[name].softmax(1)
        assert torch.equal(seen[f"class/{name}"], probabilities.argmax(1))
        torch.testing.assert_close(seen[f"confidence/{name}"], probabilities.amax(1))


def test_a_picture_without_a_face_has_no_class(context):
    dark = OriginalPictures(lambda texts, seeds: torch.zeros(len(seeds), 3, 8, 8), context, {})
    assert (dark.look_up(PICTURES, torch.device("cpu"))["class/gender"] == -1).all()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "originals"


def asked(context, pictures=PICTURES, **made_with):
    """Return what another run is told, and which pictures it had to make for that."""
    painter = Painter()
    found = OriginalPictures(painter, context, made_with).look_up(pictures, torch.device("cpu"))
    return found, painter.asked


def test_another_run_makes_no_picture_again_whatever_it_balances(context, cache, tmp_path):
    seen, made = asked(context, steps=5)
    assert sorted(made) == sorted(PICTURES) and len([*cache.iterdir()]) == 2  # one file per prompt
    other = make_context(tmp_path / "other", model=object(), attributes="gender", seed=3)
    for pictures in (PICTURES, PICTURES[::-1]):
        again, made = asked(other, pictures, steps=5)
        assert made == []
        order = [PICTURES.index(picture) for picture in pictures]
        assert all(torch.equal(again[name], seen[name][order]) for name in seen)


def test_what_the_pictures_or_the_looks_depend_on_tells_them_apart(context, cache):
    asked(context, steps=5)
    keener = replace(context, judge=ColourJudge(41.0))
    keener.judge.sha256 = "2" * 64
    for changed, made_with in ((context, {"steps": 6}), (keener, {"steps": 5})):
        assert len(asked(changed, **made_with)[1]) == 3
        assert asked(changed, **made_with)[1] == []


def test_a_judge_without_a_hash_shares_nothing(context, cache):
    nameless = replace(context, judge=ColourJudge())
    nameless.judge.sha256 = ""
    for _ in range(2):
        assert len(asked(nameless)[1]) == 3
    assert not cache.exists()


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_what_is_damaged_is_made_again(context, cache, damage):
    seen, _ = asked(context)
    for path in cache.iterdir():
        whole = bytearray(path.read_bytes())
        whole[-1] ^= 1  # a single bit
        path.write_bytes(whole if damage is None else damage)
    again, made = asked(context)
    assert len(made) == 3 and all(torch.equal(again[name], seen[name]) for name in seen)
    assert asked(context)[1] == []


def test_the_loss_is_the_weighted_cosine_distance():
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    before = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    features = [Coarse()]
    originals = {
        "features/coarse": Coarse()(before),
        "class/gender": torch.tensor([0, 1, 1, -1]),
        "class/race": torch.tensor([2, 2, 3, -1]),
    }
    # the same in both; gender must change; race has no target; no face and no target
    labels = {"gender": torch.tensor([0, 0, 1, -1]), "race": torch.tensor([2, 2, -1, -1])}
    weight = factors(labels, originals, {"gender": 0.2, "race": 0.2})
    loss, similarity = preservation_loss(images, originals, weight, features)
    expected = 0.0
    for weight, one, other in zip([1, 0.2, 0.2, 0.2], Coarse()(images), Coarse()(before), strict=True):
        one, other = one.numpy(), other.numpy()
        expected += weight * (1 - one @ other / np.sqrt(one @ one * (other @ other))) / 4
    assert loss.mean().item() == pytest.approx(expected, rel=1e-5)
    assert similarity["coarse"].shape == (4,)


def test_the_smallest_factor_of_what_must_change_counts():
    originals = {"class/gender": torch.tensor([0, 0, 0, 0, -1]), "class/race": torch.tensor([1, 1, 1, 1, -1])}
    labels = {"gender": torch.tensor([0, 1, 0, 1, 0]), "race": torch.tensor([1, 1, 2, -1, 1])}
    found = factors(labels, originals, {"gender": 0.2, "race": 0.6})
    torch.testing.assert_close(found, torch.tensor([1, 0.2, 0.6, 0.2, 0.2]))


def test_a_region_scales_the_gradient_and_leaves_the_loss():
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    originals = {"features/coarse": Coarse()(1 - images.detach())}
    region = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    plain, _ = preservation_loss(images, originals, torch.ones(2), [Coarse()])
    held, _ = preservation_loss(images, originals, torch.ones(2), [Coarse()], region)
    torch.testing.assert_close(held, plain)
    before, after = (torch.autograd.grad(loss.sum(), images)[0] for loss in (plain, held))
    torch.testing.assert_close(after, before * region)
