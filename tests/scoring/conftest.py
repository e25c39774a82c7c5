from tests.runs.small import built, small

__all__ = ["built", "small"]
