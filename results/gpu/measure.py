"""Measure fairbench on this machine's card in less than eight minutes; what is measured goes into one file.

`python results/gpu/measure.py` writes results/gpu/CARD.json; README.md says what to bring along.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

HERE = Path(__file__).parent
LIMITS = {"right": 75.0, "main": 140.0, "sd15": 205.0, "judges": 40.0}
"""Part -> the seconds that it may take, in the order in which they are measured."""
MACHINE_LIMIT = 20.0
ENVIRONMENT = {"FAIRBENCH_CACHE": "off", "HF_HUB_OFFLINE": "1"}
"""No part sees what another has left, and none asks the network."""
TAIL = 3000
"""Characters of a failed part's output that are shown."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure part after part; return 0, 1 where a part failed, or 2 where nothing can be measured."""
    options = _options(arguments)
    if find_spec("fairbench") is None or find_spec("fairbench.methods") is None:
        return _refused("fairbench is not installed: see results/gpu/README.md, or `pip install .`")
    given = ["--tiny"] * options.tiny + (["--yunet", str(options.yunet)] if options.yunet else [])
    began = perf_counter()
    with TemporaryDirectory() as place:
        machine = measured("machine", MACHINE_LIMIT, given, Path(place))
        if "error" in machine:
            return _refused(f"the machine cannot be described: {machine['error']}")
        if machine["device"] == "cpu" and not options.tiny:
            return _refused("there is no CUDA device; --tiny tries the script out on the CPU")
        out = options.out or HERE / f"{stem(machine, options)}.json"
        record = {"schema_version": 1, "tiny": options.tiny, "machine": machine, "parts": {}}
        for name in options.parts:
            found = measured(name, options.limit[name], [*given, "--device", machine["device"]], Path(place))
            record["parts"][name] = found
            _write(out, record)
            print("; ".join([f"{name}: {found['seconds']:.0f} s", *faults(found)]), flush=True)
    whole = [name for name, found in record["parts"].items() if not faults(found)]
    seconds = perf_counter() - began
    print(f"{out}: {len(whole)} of {len(options.parts)} parts without a fault, {seconds:.0f} s")
    return 0 if len(whole) == len(options.parts) else 1


def measured(name: str, limit: float, given: Sequence[str], place: Path) -> dict[str, Any]:
    """Return what a part measured in a process of its own, up to an error or its limit in seconds."""
    into, log = place / f"{name}.json", place / f"{name}.log"
    command = [sys.executable, str(HERE / "part.py"), name, str(into), *given]
    began = perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 our own names
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | ENVIRONMENT,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    seconds = round(perf_counter() - began, 1)
    found = json.loads(into.read_text(encoding="utf-8")) if into.is_file() else {}
    printed = log.read_text(encoding="utf-8", errors="replace").strip()
    if code is None:
        found["error"] = f"stopped after {limit:g} s"
    elif code and "error" not in found:
        found["error"] = f"ended with code {code}: {printed.splitlines()[-1] if printed else 'no word'}"
    if faults(found) and code is not None:
        print(printed[-TAIL:], file=sys.stderr)
    return {"seconds": seconds, **found}


def faults(found: dict[str, Any]) -> list[str]:
    """Return the error that ended a part, and those of its steps."""
    steps = {name: facts for name, facts in found.items() if isinstance(facts, dict) and "error" in facts}
    own = [found["error"]] if "error" in found else []
    return own + [f"{name}: {facts['error']}" for name, facts in steps.items()]


def stem(machine: dict[str, Any], options: argparse.Namespace) -> str:
    """Name a file after the card, and after what is not a measurement of the whole."""
    words = [machine["card"]["name"]] + ["tiny"] * options.tiny
    words += options.parts if options.parts != list(LIMITS) else []
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a part that still runs, with all that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _write(out: Path, record: dict[str, Any]) -> None:
    from fairbench.storage import atomic_write_json

    atomic_write_json(out, record)


def _refused(reason: str) -> int:
    print(f"measure.py: {reason}", file=sys.stderr)
    return 2


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="measure.py", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="the file to write; default: results/gpu/CARD.json")
    parser.add_argument("--tiny", action="store_true", help="small numbers of everything, to try the script")
    parser.add_argument("--parts", default=",".join(LIMITS), help="which; default: %(default)s")
    parser.add_argument("--limit", action="append", default=[], help="PART=SECONDS; may be repeated")
    parser.add_argument("--yunet", type=Path, help="ONNX file of YuNet, to time it on the CPU")
    options = parser.parse_args(arguments)
    options.parts = [part.strip() for part in options.parts.split(",")]
    try:
        own = {name: float(seconds) for name, seconds in (text.split("=") for text in options.limit)}
    except ValueError:
        parser.error("write a limit like --limit sd15=300")
    if unknown := {*options.parts, *own} - set(LIMITS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(LIMITS)}")
    if any(not seconds > 0 for seconds in own.values()):
        parser.error("a limit is a number of seconds above 0")
    if options.out and (options.out.is_dir() or not options.out.absolute().parent.is_dir()):
        parser.error(f"--out {options.out}: name a file in a folder that is there")
    if options.yunet and not options.yunet.is_file():
        parser.error(f"--yunet {options.yunet}: there is no such file")
    options.limit = LIMITS | own
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("measure.py: interrupted; what was measured is kept", file=sys.stderr)
        sys.exit(130)
