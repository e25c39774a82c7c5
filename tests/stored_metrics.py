"""Metrics of a run that never was: whatever a test states, and the least that must be there besides."""

from fairbench.store.results import Metrics


def metrics_of(**parts):
    """Return `Metrics` with these parts."""
    least = {
        "schema_version": 3,
        "method": "method",
        "draw_class": "emergent",
        "model": "model",
        "suite": "jobs",
        "attributes": ["gender"],
        "primary_judge": "judge",
        "variants": {},
    }
    return Metrics.model_validate(least | parts)
