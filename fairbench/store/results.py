"""What is measured, as it is stored and read: each JSON file of a result has its type here.

What cannot be given is None; a field that does not apply to a run is left out of its file.
"""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fairbench.errors import UserError, invalid
from fairbench.records import ORIGINAL, PRODUCT

SCHEMA_VERSION = 3
"""Of a run and its metrics; 1 had no ``measurement.json``, 2 no interval of the gaming gap."""
Interval = tuple[float, float] | None
"""Low and high end, of a 95 % interval where nothing else is said."""


class Result(BaseModel):
    """Numbers under names; ``result["bias_mean"]`` is ``result.bias_mean``, as the file has it."""

    # allow: what another version of fairbench wrote beside it is kept
    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

    def __getitem__(self, key: str) -> Any:
        if key in self or key in type(self).model_fields:
            return getattr(self, key)
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return key in self.model_fields_set

    @classmethod
    def of(cls, content: dict[str, Any], path: Path) -> Self:
        """Take what the file at ``path`` holds; a ``UserError`` where it is damaged."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise invalid(str(path), error) from None

    def __dir__(self) -> list[str]:
        own = [name for kind in type(self).__mro__ if issubclass(kind, Result) for name in vars(kind)]
        return sorted(
            {*type(self).model_fields, *(name for name in own if not name.startswith(("_", "model_")))}
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file: what was set, in the order of the fields."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True)


def refuse_newer(content: dict[str, Any], path: Path) -> None:
    """Raise a ``UserError`` where a newer version wrote the file at ``path``, or its schema is no number."""
    version = content.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, bool) or not isinstance(version, int):
        raise UserError(f"{path}: schema_version: {version!r} is no number: the file is damaged")
    if version > SCHEMA_VERSION:
        raise UserError(f"{path}: schema_version: {version} is of a newer fairbench: update fairbench")


# metrics.json


class Estimate(Result):
    """A number with its interval."""

    value: float | None
    interval: Interval


class Mean(Result):
    """A mean over images."""

    mean: float | None
    sd: float | None = None
    images: int | None = None


class Distance(Result):
    """A kernel distance to reference images."""

    mean: float | None
    sd: float | None = None
    """Over random subsets."""
    reason: str | None = None
    """Why there is no number."""
    interval: Interval = None
    images: int | None = None
    reference_images: int | None = None
    compared: float | None = None
    """Share of the images that the reference has the like of."""
    effective: float | None = None
    """Number of reference images that the weighted ones are worth."""


class Corrected(Result):
    """A gap with the errors of the judge taken back."""

    gap: float | None
    signed: float | None = None
    square: float | None = None
    interval: Interval = None


class Transport(Result):
    """How many classes an image has to be moved on average, for classes in order."""

    mean: float
    interval: Interval


class PromptSummary(Result):
    """One prompt: the images of each class, and the bias."""

    prompt_id: str
    prompt: str
    images: int
    usable: int
    counts: dict[str, int]
    bias: float | None
    bounds: tuple[float, float]


class Summary(Result):
    """The bias of one attribute or intersection, see `fairbench.metrics.summary.summarise`."""

    target: tuple[float, ...] | None = None
    """None for even shares."""
    bias_mean: float | None = None
    """Over prompts: 0 fair, 1 one-sided for two classes."""
    bias_sd: float | None = None
    """Over prompts."""
    interval: Interval = None
    """Of the mean, by bootstrap."""
    t_interval: Interval = None
    """Of the mean, by Student's t."""
    bounds: Interval = None
    """Of the mean, whatever the images without a face are; no confidence interval."""
    bounds_interval: Interval = None
    """Holds these bounds with 95 %."""
    debiased: float | None = None
    """The gap (rms) freed from counting noise."""
    debiased_signed: float | None = None
    """The same; below zero where less was seen than noise alone gives."""
    debiased_interval: Interval = None
    corrected: Corrected | None = None
    """The gap freed from the judge's errors as well, where these are known."""
    floor: float | None = None
    """The mean that a fair model shows with as many images."""
    minimum_detectable: float | None = None
    """The smallest gap that so many images can tell from noise."""
    prompts: int | None = None
    prompts_without_value: int | None = None
    images: int | None = None
    usable: int | None = None
    """Images with a face."""
    face_rate: float | None = None
    per_prompt: list[PromptSummary] = []
    transport: Transport | None = None


class DistanceImages(Result):
    """How many images FID and KID are of."""

    generated: int
    reference: int


class Quality(Result):
    """What the images of one variant are worth."""

    face_rate: float | None = None
    recognised: Mean | None = None
    clip_t: Mean | None = None
    clip_i: Mean | None = None
    dino: Mean | None = None
    fid: float | None = None
    kid: Distance | None = None
    distance_images: DistanceImages | None = None
    kid_matched: Distance | None = None

    def value(self, measure: str) -> float | None:
        """Return a number, or the mean of what has one; None where it was not measured."""
        found = getattr(self, measure)
        return found.mean if isinstance(found, Mean | Distance) else found

    def interval(self, measure: str) -> Interval:
        """Return the interval of a distance; None for what has none."""
        found = getattr(self, measure)
        return found.interval if isinstance(found, Distance) else None


class Group(Result):
    """The quality of the images of one class."""

    images: int
    face_rate: float | None = None
    recognised: Mean | None = None
    clip_t: Mean | None = None
    clip_i: Mean | None = None
    dino: Mean | None = None
    vendi: float | None = None
    vendi_images: int | None = None
    kid: Distance | None = None


class Share(Result):
    """A share of images: obedience, or what was preserved."""

    mean: float
    interval: Interval
    images: int
    prompts: int
    per_prompt: dict[str, float] = {}
    with_face: float | None = None
    per_class: dict[str, float] = {}


class VariantMetrics(Result):
    """One variant of a run."""

    bias: dict[str, Summary] = {}
    """Attribute or intersection -> its bias as the primary judge sees it."""
    judges: dict[str, dict[str, Summary]] = {}
    """Judge -> the same as this one sees it, without the prompts."""
    quality: Quality = Quality()
    groups: dict[str, dict[str, Group]] = {}
    """Attribute -> class -> its quality."""
    obedience: dict[str, Share] = {}
    preservation: dict[str, Share] = {}


class PairedTest(Result):
    """Debiased against original, prompt by prompt."""

    difference: float | None
    p_value: float | None
    prompts: int | None = None


class SequentialGap(Result):
    """What is known of one attribute where generating stopped by itself."""

    interval: tuple[float, float]
    fixed: int
    """Images that a design fixed in advance would have needed."""
    fixed_knowing_the_gap: int


class Sequential(Result):
    """How generating was stopped."""

    width: float
    images: int
    saved: int
    attributes: dict[str, SequentialGap]


class TrainingWarning(Result):
    """What goes wrong in a training, and since which update; None for what only the results show."""

    name: str
    sentence: str
    since: int | None = None


class Metrics(Result):
    """The content of ``metrics.json``, see `fairbench.scoring.score.score_records`."""

    schema_version: int
    method: str
    draw_class: str
    model: str
    suite: str
    measures: str = "bias"
    attributes: list[str]
    target: dict[str, tuple[float, ...]] = {}
    primary_judge: str
    evaluation_judges: list[str] = []
    training_judge: str | None = None
    variants: dict[str, VariantMetrics]
    paired: dict[str, PairedTest | None] = {}
    spill_over: dict[str, PairedTest | None] = {}
    side_effects: dict[str, PairedTest | None] = {}
    gaming_gap: dict[str, Estimate] = {}
    sequential: Sequential | None = None
    notes: list[str] = []
    warnings: list[TrainingWarning] = []

    @property
    def variant(self) -> str | None:
        """The variant that is not the original model; None if only the original was measured."""
        return next((name for name in self.variants if name != ORIGINAL), None)

    @property
    def balanced(self) -> list[str]:
        """What the run set out to balance: its attributes, then their intersection."""
        crossed = [PRODUCT.join(self.attributes)] if len(self.attributes) > 1 else []
        return [*self.attributes, *crossed]


# provenance.json


class InputHashes(Result):
    """Sha256 of all that a result was made of; None for what no file stands for."""

    model: dict[str, str | None] = {}
    judges: dict[str, str] = {}
    training_judge: dict[str, str] = {}
    features: dict[str, str] = {}
    training_features: dict[str, str] = {}
    adapter: str | None = None
    reference: str | None = None
    real_faces: str | None = None
    suite: str = ""
    images: str | None = None
    table: str | None = None


class UnetRows(Result):
    """Rows that went through the denoiser."""

    per_image: dict[str, float] = {}
    """Variant -> rows for one image."""
    training: int | None = None
    """Forward rows of all updates, each once, and of what they learn from; not of the original pictures that
    they are compared with, which runs share."""


class Provenance(Result):
    """The content of ``provenance.json``: code, machine, inputs and costs."""

    schema_version: int = SCHEMA_VERSION
    git: dict[str, Any] | None = None
    packages: dict[str, str] = {}
    python: str = ""
    platform: str = ""
    device: str = ""
    threads: int | None = None
    config_sha256: str | None = None
    """Of ``config.yaml``, which is written after it; None in runs of an earlier version."""
    sha256: InputHashes = InputHashes()
    seconds: dict[str, float] = {}
    """Stage -> wall seconds."""
    unet_rows: UnetRows = UnetRows()
    peak_memory_bytes: int | None = None
    peak_gpu_memory_bytes: int | None = None


# comparison.json


class ComparedRun(Result):
    """One run of a comparison: what it is, and what it took."""

    label: str
    name: str
    path: str
    draw_class: str
    model: str
    suite: str
    seed: int | None
    images_per_prompt: str
    judge: str
    unet_rows_per_image: float | None
    training_unet_rows: int | None
    training_seconds: float | None
    kid: float | None


class ComparedBias(Result):
    """The bias of one run on one attribute, among the others."""

    label: str
    bias_mean: float | None
    bias_sd: float | None
    interval: Interval
    floor: float | None
    floor_p: float | None
    debiased: float | None
    usable: int
    prompts: int
    rank: float
    rank_interval: tuple[float, float]
    beats: list[str]
    gaming_gap: Estimate | None
    fair: bool | None


class PairOfRuns(Result):
    """The test of two runs on one attribute."""

    attribute: str
    first: str
    second: str
    difference: float | None
    p_value: float | None
    p_holm: float
    significant: bool


class Change(Result):
    """An equivalence test: whether a measure stayed within its margin."""

    difference: float
    interval: Interval
    margin: float
    p_value: float
    p_holm: float
    unchanged: bool


class ComparedQuality(Result):
    """One measure of one run, and its change against the first run that has it."""

    label: str
    mean: float
    change: Change | None


class Panel(Result):
    """How far the judges agree on one attribute, and whom each of them prefers."""

    agreement: Estimate
    bias_mean: dict[str, list[float | None]]
    order: list[str]
    without: dict[str, list[str]]


class Comparison(Result):
    """The content of ``comparison.json``, see `fairbench.comparison.compare.compare`."""

    schema_version: int
    judge: str | None
    level: float
    paired: bool
    prompts: int | None
    differences: list[str]
    runs: list[ComparedRun]
    attributes: dict[str, list[ComparedBias]]
    tests: list[PairOfRuns]
    quality: dict[str, list[ComparedQuality]]
    panel: dict[str, Panel]


# matrix.json


class MatrixRow(Result):
    """One run of a matrix and one attribute that it set out to balance."""

    run: str
    state: str
    reason: str | None
    attribute: str
    draw: str | None = None
    original: float | None = None
    debiased: float | None = None
    floor: float | None = None
    clip_i: Annotated[float | None, Field(alias="CLIP-I")] = None
    unet_rows: Annotated[float | None, Field(alias="U-Net rows")] = None
    training_seconds: Annotated[float | None, Field(alias="training s")] = None
