from tests.comparison.runs_by_name import stored
from tests.runs.small import built, small

__all__ = ["built", "small", "stored"]
