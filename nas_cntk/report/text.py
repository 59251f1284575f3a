"""Numbers and times as people read them."""

from __future__ import annotations

import shlex
import unicodedata

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
DEFAULT_DB = "runs/nas.db"

# A line break or an escape sequence in a name must not reach a terminal, nor a bidirectional override turn the text
# around it; half a surrogate pair (a file's name that is no UTF-8) could not be written.
_UNSEEN = ("Cc", "Cs")
_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def count(number: int | None) -> str:
    """Return 1234567 as 1.23M."""
    if number is None:
        return "-"
    for size, unit in _UNITS:
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def duration(seconds: float | None) -> str:
    """Return seconds as `<0.1 s`, `0.4 s`, `12 s`, `3 min`, `2.5 h`, `4 d`."""
    if seconds is None:
        return "-"
    if seconds < 0.05:
        return "<0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    if seconds < 119.5 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} d"


def score(name: str, value: float | None, error: float | None = None) -> str:
    """Return an accuracy in percent, with its standard error if that is given; anything else with four digits."""
    if value is None:
        return "-"
    if name.endswith("accuracy"):
        return f"{100 * value:.2f} %" if error is None else f"{100 * value:.2f} ± {100 * error:.2f} %"
    if name in ("flops", "params"):
        return count(int(value))
    if "alignment" in name:
        return f"{value:.4f}"  # so that they stand below each other
    return f"{value:.4g}"


def command(verb: str, *arguments: str, db: str = DEFAULT_DB, study: str | None = None) -> str:
    """Return a command line to type next."""
    parts = ["nas-cntk", verb, *arguments]
    parts += ["--study", study] if study is not None else []
    parts += ["--db", db] if db != DEFAULT_DB else []
    return shlex.join(parts)


def clean(value: str, keep: str = "") -> str:
    """Return a text without characters that are not seen but do something, except those in `keep`."""
    if value.isprintable():
        return value
    return "".join(letter if letter in keep else _seen(letter) for letter in value)


def _seen(letter: str) -> str:
    if letter in "\n\t":
        return " "
    return "\ufffd" if letter in _OVERRIDES or unicodedata.category(letter) in _UNSEEN else letter
