"""What reads attributes off images.

Nothing heavy is imported before a judge is built.
"""

from fairbench.judges.judge import Judge, Judgement, check_covers, judge_all, refuse_training_judge
from fairbench.judges.loading import build_judge, identify_judge, list_judges, load_judge, save_judge

__all__ = [
    "Judge",
    "Judgement",
    "build_judge",
    "check_covers",
    "identify_judge",
    "judge_all",
    "list_judges",
    "load_judge",
    "refuse_training_judge",
    "save_judge",
]
