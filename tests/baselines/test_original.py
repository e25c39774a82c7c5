import pytest
from pydantic import ValidationError

from fairbench.baselines.original import Original
from fairbench.models.hooks import Hooks


def test_the_original_changes_nothing():
    method = Original(Original.Config())
    intervention = method.fit(None)
    assert (intervention.method, intervention.draw_class) == ("original", "emergent")
    assert intervention.tensors == {}
    with method.apply(intervention, None, None) as hooks:
        assert hooks == Hooks()


def test_the_original_has_nothing_to_set():
    with pytest.raises(ValidationError):
        Original.Config(rank=8)
