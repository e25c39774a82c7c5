"""Run the command line of fairbench, and note the most memory that it took on the card.

`python command.py FILE ARGUMENTS` writes FILE at the end.
"""

import json
import sys
from pathlib import Path

from fairbench.cli.main import main

if __name__ == "__main__":
    try:
        main(sys.argv[2:])
    finally:
        import torch

        peak = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None
        Path(sys.argv[1]).write_text(json.dumps({"peak_gb": peak}))
