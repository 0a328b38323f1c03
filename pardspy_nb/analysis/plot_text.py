"""Text in plots, in any script: a font that has its characters, or boxes and one hint."""

from __future__ import annotations

import functools
import unicodedata
import warnings
from collections.abc import Iterable
from typing import Any

_MOST_FONTS = 400  # that are looked into
_BOX = "□"
_told: set[str] = set()


class PlotText:
    """What is needed to draw some texts.

    Attributes:
        family: font families for matplotlib, the current one first.
    """

    def __init__(self, texts: Iterable[Any]) -> None:
        import matplotlib as mpl

        self.family: list[str] = list(mpl.rcParams["font.family"])
        needed = {c for text in texts for c in str(text) if ord(c) > 127 and _is_drawn(c)}
        first = _path_of_family(tuple(self.family))
        missing = needed - _characters(first)
        for name, path in _fonts() if missing else ():
            if found := missing & _characters(path):
                self.family.append(name)
                missing -= found
            if not missing:
                break
        self._missing = missing
        if missing and not (scripts := _scripts(missing)) <= _told:
            _told.update(scripts)
            warnings.warn(
                f"no font of this system has {', '.join(sorted(scripts))} characters such as "
                f"{''.join(sorted(missing)[:3])!r}: they are drawn as {_BOX}. Install one, for "
                "example of the Noto fonts, and restart the kernel",
                UserWarning,
                stacklevel=3,
            )

    def shown(self, text: Any) -> str:
        """The text, with a box for each character that no font has."""
        return "".join(_BOX if c in self._missing else c for c in str(text))

    def dress(self, texts: Iterable[Any]) -> None:
        """Set the fonts of matplotlib's texts."""
        for text in texts:
            text.set_fontfamily(self.family)


def _is_drawn(character: str) -> bool:
    """Whether a character has a picture of its own (no mark of direction, no white space)."""
    return unicodedata.category(character)[0] not in "CZ"


def _scripts(characters: Iterable[str]) -> set[str]:
    """The first words of characters' names, which are their scripts' (`ARABIC`, `CJK`)."""
    return {unicodedata.name(c, "unnamed").split()[0].split("-")[0] for c in characters}


@functools.lru_cache(maxsize=16)
def _path_of_family(family: tuple[str, ...]) -> str:
    from matplotlib import font_manager

    return str(font_manager.findfont(font_manager.FontProperties(family=list(family))))


@functools.lru_cache(maxsize=_MOST_FONTS)
def _characters(path: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError):  # a damaged font
        return frozenset()


def _fonts() -> list[tuple[str, str]]:
    """Upright fonts of the system, by family and path."""
    from matplotlib import font_manager

    known = font_manager.fontManager.ttflist
    # the font of last resort has a frame in place of every character
    upright = {f.name: f.fname for f in known if f.style == "normal" and "Resort" not in f.name}
    return list(upright.items())[:_MOST_FONTS]
