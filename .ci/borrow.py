"""Let the environment that runs this see the packages of another one, without installing them again.

Only what lies in its site-packages is borrowed: its .pth files, hence its editable installs, are not read.
"""

import sys
import sysconfig
from pathlib import Path

other = Path(sys.argv[1])
found = list(other.glob("lib/python*/site-packages")) or list(other.glob("Lib/site-packages"))
if not found:
    sys.exit(f"{other} is not there: run tox with -e py first")
(Path(sysconfig.get_path("purelib")) / "borrowed.pth").write_text(f"{found[0]}\n")
