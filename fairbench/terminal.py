"""What a terminal is shown: every text as it is, with nothing in it that the terminal would obey.

Names come from files and folders of anybody's; one that holds an escape sequence could rewrite the screen.
"""

import re
from typing import Any

from rich.console import Console
from rich.text import Text

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""Control characters but line break and tab, what turns the direction of writing, surrogates."""


def visible(text: str) -> str:
    r"""Write out the characters that a terminal would obey, as JSON does.

    Examples
    --------
    >>> print(visible("red: \x1b[31m"))
    red: \u001b[31m
    """
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class Screen(Console):
    """A console that shows texts as they are: no markup, no ``:fire:``, nothing `visible` writes out.

    It cuts nothing off: a table that needs more columns than there are has longer lines.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def print(self, *shown: Any, crop: bool = False, **options: Any) -> None:
        """Print ``shown`` as rich does."""
        super().print(*shown, crop=crop, **options)

    def on_broken_pipe(self) -> None:
        """Leave it to whoever printed that the reader, such as ``head``, has seen enough."""
        raise BrokenPipeError

    def render_str(self, text: str, **options: Any) -> Text:
        """Make what is rendered and measured of a ``text``."""
        return super().render_str(visible(text), **options)
