import math
from dataclasses import replace
from itertools import permutations, product

import pytest
import torch
from scipy.stats import binom

from fairbench.errors import UserError
from fairbench.finetuning import objective
from fairbench.finetuning.batches import Batch
from fairbench.finetuning.faces import WholePictures
from fairbench.finetuning.objective import Objective
from fairbench.finetuning.settings import Settings
from tests.finetuning.stand_ins import Coarse, ColourJudge, make_context


class NoOriginals:
    """Original pictures that looked just like the images."""

    def __init__(self, images, context):
        logits = context.judge.logits(images)
        self.table = {f"features/{network.name}": network(images) for network in context.features}
        for name in context.space.names:
            confidence, self.table[f"class/{name}"] = logits[name].softmax(1).max(1)
            self.table[f"confidence/{name}"] = confidence
        if context.faces:
            found = context.faces.find(images)
            features = context.faces.features(images, found.landmarks)
            self.table |= {"face/box": found.boxes, "face/features": features}

    def look_up(self, pictures, device):
        return self.table


class UpperHalves(WholePictures):
    """Every face fills the upper half of its picture."""

    def find(self, images, found=None):
        found = super().find(images)
        return found._replace(boxes=found.boxes * torch.tensor([1, 1, 1, 0.5]))


def noisy(count, seed):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def pictures(reds):
    """One image per number, redder (female) the larger it is."""
    images = torch.full((len(reds), 3, 8, 8), 0.5)
    images[:, 0] += torch.tensor(reds)[:, None, None]
    return images


def evaluate(tmp_path, images, prompts, at_once=100, originals=None, settings=None, **changes):
    """Return the gradient at the images, which stand for their own latents, and the log."""
    context = make_context(tmp_path, model=object(), judge=ColourJudge(4.0), **changes)
    count = len(images)
    batch = Batch(0, ["a"] * count, list(range(count)), count // prompts, torch.Generator(), count)
    before = NoOriginals(images if originals is None else originals, context)
    settings = Settings(**{"image_weight": 8.0} | (settings or {}))
    return Objective(context, before, settings, lambda latents: latents, at_once)(images, batch)


def test_alignment_is_the_mean_over_prompts_of_confident_cross_entropies(tmp_path):
    reds = [
        0.3,
        0.22,
        0.35,
        0.25,
        0.15,
        0.05,
        -0.1,
        -0.3,
        0.1,
        -0.2,
    ]  # ranked together, half are wanted otherwise
    _, row = evaluate(tmp_path, pictures(reds), prompts=2)
    expected = 0.0
    for part in (reds[:5], reds[5:]):
        maleness = sorted(part, reverse=True)
        for red in part:
            male = binom.cdf(maleness.index(red), 5, 0.5)
            if max(male, 1 - male) >= 0.8:
                logit = 8.0 * red * (-1 if male > 0.5 else 1)
                expected += math.log1p(math.exp(-logit)) / 5 / 2
    assert row["loss"] == pytest.approx(expected, rel=1e-4)
    assert row["loss_semantics"] == pytest.approx(0, abs=1e-5)
    assert row["gap_gender"] == pytest.approx(((5 - 0) / 5 + (3 - 2) / 5) / 2)
    assert row["faces"] == 1


@pytest.mark.parametrize(
    ("target", "gap"),
    # 4 of 5 female in both prompts: |(.8 - t) - (.2 - (1 - t))|
    [("uniform", 0.6), ("gender=0.8/0.2", 0), ("gender=0.75/0.25", 0.1), ("gender=0.2/0.8", 1.2)],
)
def test_the_gap_of_the_training_images_is_that_to_the_target(tmp_path, target, gap):
    reds = [0.1, -0.2, 0.3, 0.25, 0.15, 0.05, -0.1, 0.2, 0.3, 0.35]
    _, row = evaluate(tmp_path, pictures(reds), prompts=2, target=target)
    assert row["gap_gender"] == pytest.approx(gap, abs=1e-6)


def test_pictures_without_a_face_take_no_part(tmp_path):
    images = pictures([0.1, -0.2, 0.3, 0.2, 0.15, 0.3])
    images[2:] = 0
    gradient, row = evaluate(tmp_path, images, prompts=3)
    assert gradient.isfinite().all() and row["faces"] == pytest.approx(2 / 6)
    assert row["gap_gender"] == 0
    assert math.isnan(evaluate(tmp_path, images * 0, prompts=1)[1]["gap_gender"])


@pytest.mark.parametrize("confidence", [0.8, 0.9])
def test_one_picture_without_a_face_leaves_the_targets_to_the_other_three(tmp_path, confidence):
    """Of three, the outer two are sure to .875; of four they would be to .9375."""
    images = pictures([0.3, 0.1, 0.2, 0.05])
    images[1] = 0
    _, row = evaluate(tmp_path, images, prompts=1, settings={"confidence": confidence})
    male = {red: binom.cdf(rank, 3, 0.5) for rank, red in enumerate([0.3, 0.2, 0.05])}
    assert male[0.3] == 0.125
    sure = {red: p > 0.5 for red, p in male.items() if max(p, 1 - p) >= confidence}
    losses = [math.log1p(math.exp(-8.0 * red * (-1 if wanted else 1))) for red, wanted in sure.items()]
    assert row["loss_alignment"] == pytest.approx(sum(losses) / 4, rel=1e-4)
    assert row["targeted_gender"] == len(sure) / 4


def matched(gender, race):
    """Return the expected targets of a few pictures by brute force: every draw in every order."""
    found = [[[0.0] * 2 for _ in gender], [[0.0] * 4 for _ in race]]
    classes = list(product(range(2), range(4)))
    for drawn in product(classes, repeat=len(gender)):
        costs = {}
        for order in set(permutations(drawn)):
            costs[order] = sum(
                math.sqrt(
                    sum((p - (k == g)) ** 2 for k, p in enumerate(gender[i]))
                    + sum((p - (k == r)) ** 2 for k, p in enumerate(race[i]))
                )
                for i, (g, r) in enumerate(order)
            )
        for i, (g, r) in enumerate(min(costs, key=costs.get)):
            found[0][i][g] += 1 / len(classes) ** len(gender)
            found[1][i][r] += 1 / len(classes) ** len(race)
    return found


def test_several_attributes_are_matched_together(tmp_path):
    images = noisy(3, 3) * torch.tensor([1.0, 0.7, 0.85]).view(-1, 1, 1, 1)
    judged = {
        name: values.softmax(1) for name, values in ColourJudge(4.0).logits(images).items() if name != "face"
    }
    q = matched(*(judged[name].tolist() for name in ("gender", "race")))
    sure = sorted({round(max(row), 9) for part in q for row in part})
    confidence = (sure[0] + sure[1]) / 2
    _, row = evaluate(tmp_path, images, 1, attributes="gender,race", settings={"confidence": confidence})
    expected = [
        -math.log(judged[name][i, part[i].index(max(part[i]))])
        for name, part in zip(("gender", "race"), q, strict=True)
        for i in range(3)
        if max(part[i]) >= confidence
    ]
    assert 3 <= len(expected) < 6
    assert row["loss_alignment"] == pytest.approx(sum(expected) / 3, rel=1e-4)


def test_every_prompt_has_draws_of_its_own_whoever_computes_it(tmp_path, monkeypatch):
    """Two processes find for their prompt the targets that one would find for both."""
    images, before = noisy(16, 3), noisy(16, 4)
    context = make_context(tmp_path, model=object(), judge=ColourJudge(4.0), attributes="gender,race")
    settings = Settings(confidence=0.3)
    whole = Batch(0, ["a"] * 8 + ["b"] * 8, list(range(16)), 8, torch.Generator(), 16)
    drawn, find = [], objective.expected_targets

    def spied(*args, generator):
        drawn.append(generator.get_state().numpy().tobytes())
        return find(*args, generator=generator)

    monkeypatch.setattr(objective, "expected_targets", spied)

    def gradient(batch):
        rows = batch.seeds
        originals = NoOriginals(before[rows], context)
        return Objective(context, originals, settings, lambda latents: latents, 100)(images[rows], batch)[0]

    together = gradient(whole)
    for index in range(2):
        share = whole.share(index, 2)
        torch.testing.assert_close(gradient(share), together[share.seeds], rtol=1e-5, atol=1e-8)
    gradient(replace(whole, update=1))
    assert drawn[:2] == drawn[2:4] and len(set(drawn)) == 4


class Means(Coarse):
    """Another feature network: the mean colour."""

    name = "means"

    def __call__(self, images):
        return images.mean((2, 3)) - 0.3


@pytest.mark.parametrize("at_once", [2, 100])
def test_what_is_kept_of_a_picture_by_hand(tmp_path, at_once):
    """Two networks' distances are added; pictures that may change, or have no sure target, weigh less."""
    images = pictures([0.3, 0.22, 0.1, 0.05]) * noisy(4, 3)
    before = pictures([0.3] * 4) * noisy(4, 4)  # all female
    networks = [Coarse(), Means()]
    _, row = evaluate(
        tmp_path, images, 1, at_once, before, {"change_factor": 0.3, "image_weight": 2.0}, features=networks
    )
    judge = ColourJudge(4.0)
    male = judge.logits(images)["gender"].softmax(1)[:, 1].argsort().argsort().tolist()
    assert judge.logits(before)["gender"].argmax(1).tolist() == [0] * 4
    expected = 0.0
    for i, rank in enumerate(male):
        # .0625, .3125, .6875, .9375: the second is not sure enough to be female
        weight = 1 if binom.cdf(rank, 4, 0.5) <= 0.2 else 0.3
        for network in networks:
            one, other = (network(x)[i].double().numpy() for x in (images, before))
            expected += weight * (1 - one @ other / math.sqrt(one @ one * (other @ other))) / 4
    assert row["loss_semantics"] == pytest.approx(expected, rel=1e-4)
    assert row["loss"] == pytest.approx(row["loss_alignment"] + 2 * expected, rel=1e-4)


def test_the_gradient_is_that_of_the_loss(tmp_path):
    images, before = noisy(6, 3), noisy(6, 4)
    gradient, _ = evaluate(tmp_path, images, prompts=2, originals=before)
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    ahead, behind = (
        evaluate(tmp_path, images + sign * direction, prompts=2, originals=before)[1]["loss"]
        for sign in (1, -1)
    )
    assert (gradient * direction).sum().item() == pytest.approx((ahead - behind) / 2, rel=0.02)


@pytest.mark.parametrize("at_once", [1, 4, 5])
@pytest.mark.parametrize("settings", [{}, {"face_weight": 1.0, "region_factor": 0.3}])
def test_uneven_portions_do_not_change_the_gradient(tmp_path, at_once, settings):
    """The authors' last micro-batch weighed up to three times as much as the others."""
    images = noisy(8, 3)
    images[5] = 0  # no face
    options = {
        "prompts": 2,
        "originals": noisy(8, 4),
        "attributes": "gender,race",
        "settings": settings,
        "faces": WholePictures(Coarse(), lambda: noisy(5, 9)),
    }
    whole, row = evaluate(tmp_path, images, **options)
    parts, again = evaluate(tmp_path, images, at_once=at_once, **options)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-7)
    assert again == pytest.approx(row, rel=1e-4, nan_ok=True)


class Looking(ColourJudge):
    """Counts the pictures in which it has looked for a face."""

    looked = 0

    def find(self, images):
        self.looked += len(images)
        return super().find(images)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_faces_are_looked_for_once_in_a_picture(tmp_path, monkeypatch, at_once):
    judge = Looking(4.0)
    faces = WholePictures(Coarse(), lambda: noisy(5, 9))
    context = make_context(tmp_path, model=object(), judge=judge, faces=faces)
    images = noisy(8, 3)
    before = NoOriginals(noisy(8, 4), context)
    given = []
    monkeypatch.setattr(
        WholePictures, "find", lambda self, pictures, found=None: given.append(found) or found
    )
    batch = Batch(0, ["a"] * 8, list(range(8)), 4, torch.Generator(), 8)
    settings = Settings(face_weight=1.0, region_factor=0.3)
    Objective(context, before, settings, lambda latents: latents, at_once)(images, batch)
    assert judge.looked == 8
    assert sum(len(found.boxes) for found in given) == 8  # the face loss takes what the judge has found


def test_a_changing_face_is_held_less_than_the_rest_of_its_picture(tmp_path):
    faces = UpperHalves(Coarse(), lambda: noisy(5, 9))
    images, before = noisy(4, 3), 1 - noisy(4, 4)
    options = {"prompts": 1, "originals": before, "target": "gender=0/1", "faces": faces}
    weak = {"confidence": 1.0, "change_factor": 1.0}  # certain targets, so all else follows from the class
    plain, row = evaluate(tmp_path, images, settings=weak, **options)
    held, again = evaluate(tmp_path, images, settings=weak | {"region_factor": 0.25}, **options)
    aligned, _ = evaluate(tmp_path, images, settings=weak | {"image_weight": 0}, **options)
    changing = NoOriginals(before, make_context(tmp_path, model=object(), judge=ColourJudge(4.0))).table
    changes = changing["class/gender"] != 1
    assert changes.any() and not changes.all()
    factor = torch.ones(4, 1, 8, 8)
    factor[changes, :, :4] = 0.25
    torch.testing.assert_close(held - aligned, (plain - aligned) * factor, rtol=1e-3, atol=1e-7)
    assert again["loss"] == pytest.approx(row["loss"])  # the loss does not notice, its gradient does


def by_hand(images, before, real, attributes, wanted, least):
    """Return the mean face loss: of every image with a face the distance to its original or the nearest real.

    ``wanted`` gives the class that each image is to show in each attribute, None for no target.
    """
    judge, faces = (
        ColourJudge(4.0),
        [torch.nn.functional.normalize(Coarse()(x)) for x in (images, before, real)],
    )
    mine, originals, reals = (rows.double().numpy() for rows in faces)
    seen, shown = judge.logits(images), judge.logits(before)
    total = 0.0
    for row in range(len(images)):
        if seen["face"][row] <= 0:
            continue
        if len(attributes) == 1 and wanted[row] is None:
            continue
        keep = wanted[row] is not None and all(
            shown[name][row].argmax() == wanted[row][name] and shown[name][row].softmax(0).max() >= least
            for name in attributes
        )
        total += 1 - (mine[row] @ originals[row] if keep else max(mine[row] @ one for one in reals))
    return total / len(images)


SURE = {"gender": 1, "race": 2}


@pytest.mark.parametrize(
    ("attributes", "target", "confidence", "wanted", "least"),
    [
        ("gender", "gender=0/1", 0.8, SURE, 0.65),  # one of four is so sure
        ("gender", "uniform", 1.0, None, 0.0),
        ("gender,race", "gender=0/1,race=0/0/1/0", 0.8, SURE, 0.295),  # three of four, of the race
        ("gender,race", "uniform", 1.0, None, 0.0),
    ],
)
def test_the_face_loss_by_hand(tmp_path, attributes, target, confidence, wanted, least):
    """Where nobody has a target, faces count with several attributes and not with one: so does the source."""
    images, before, real = noisy(12, 3), noisy(12, 4), noisy(5, 9)
    images[5] = 0  # no face
    settings = {"face_weight": 0.5, "image_weight": 0.0, "face_confidence": least, "confidence": confidence}
    _, row = evaluate(
        tmp_path, images, 1, originals=before, settings=settings, attributes=attributes, target=target,
        faces=WholePictures(Coarse(), lambda: real),
    )  # fmt: skip
    expected = by_hand(images, before, real, attributes.split(","), [wanted] * 12, least)
    assert row["loss_face"] == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert (expected == 0) == (attributes == "gender" and wanted is None)
    if wanted:
        everyone, nobody = (
            by_hand(images, before, real, attributes.split(","), [wanted] * 12, bound) for bound in (0, 1)
        )
        assert everyone != expected != nobody
    assert row["loss"] == pytest.approx(row["loss_alignment"] + 0.5 * expected, rel=1e-4)


def test_faces_whose_target_is_unsure_are_left_alone(tmp_path):
    """Of eight pictures by Bin(8, 1/2) those in the middle two ranks have no target."""
    images, before, real = noisy(8, 3), noisy(8, 4), noisy(5, 9)
    maleness = ColourJudge(4.0).logits(images)["gender"].softmax(1)[:, 1].argsort().argsort().tolist()
    chance = [binom.cdf(rank, 8, 0.5) for rank in maleness]
    wanted = [{"gender": int(p > 0.5)} if max(p, 1 - p) >= 0.8 else None for p in chance]
    assert wanted.count(None) == 2
    settings = {"face_weight": 1.0, "face_confidence": 0.0}
    faces = WholePictures(Coarse(), lambda: real)
    _, row = evaluate(tmp_path, images, 1, originals=before, settings=settings, faces=faces)
    assert row["loss_face"] == pytest.approx(by_hand(images, before, real, ["gender"], wanted, 0.0), rel=1e-4)


def test_unknown_attributes_in_a_factor_are_a_mistake(tmp_path):
    with pytest.raises(UserError, match="unknown attribute in change_factor 'race'"):
        evaluate(tmp_path, noisy(4, 3), prompts=1, settings={"change_factor": {"race": 0.5}})


def test_broken_pictures_are_reported_not_judged(tmp_path):
    with pytest.raises(FloatingPointError):
        evaluate(tmp_path, pictures([0.1, math.nan]), prompts=1)
