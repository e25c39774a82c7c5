from tests.runs.finished import done
from tests.runs.small import built, small

__all__ = ["built", "done", "small"]
