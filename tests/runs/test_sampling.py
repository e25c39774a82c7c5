"""What a run does about a sampler that makes no pictures."""

import json
import shutil

import pytest

from fairbench.errors import UserError
from fairbench.runs.run import run


@pytest.mark.parametrize("method", ["original", "nudge", "biased_dft"])
def test_a_sampler_of_black_pictures_is_refused_before_anything_is_written(small, tmp_path, method):
    """Noise prediction has nothing to go by at a step without any signal: every picture was not a number."""
    shutil.copytree(small.root / "model", tmp_path / "model")
    path = tmp_path / "model" / "scheduler" / "scheduler_config.json"
    zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    path.write_text(json.dumps(json.loads(path.read_text()) | zero))
    with pytest.raises(UserError, match="rescale_betas_zero_snr begins where all is noise"):
        run(small.config(method=method, model=str(tmp_path / "model")), tmp_path / "run")
    assert not (tmp_path / "run").exists()
