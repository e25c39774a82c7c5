"""Check that the installed wheel brings `fairbench` and nothing else, and that its command works anywhere."""

import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

COMMANDS = (
    "--version",
    "--help",
    "list methods",
    "list models",
    "list suites",
    "list judges",
    "show biased_dft",
)

wheel = distribution("fairbench-t2i")
location = Path(str(wheel.locate_file(""))).resolve()
if not location.is_relative_to(Path(sys.prefix).resolve()):
    sys.exit(f"fairbench comes from {location}, not from the wheel")
brought = {file.parts[0] for file in wheel.files or []} - {".."}  # "..": the command, beside the interpreter
expected = {"fairbench", f"fairbench_t2i-{wheel.version}.dist-info"}
if brought != expected:
    sys.exit(f"the wheel brings {sorted(brought)} into site-packages; expected {sorted(expected)}")

program = Path(sys.executable).with_name("fairbench")
with tempfile.TemporaryDirectory() as elsewhere:
    for command in COMMANDS:
        print(f"$ fairbench {command}", flush=True)
        subprocess.run([program, *command.split()], cwd=elsewhere, check=True)
