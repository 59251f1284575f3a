"""The page as text: templates filled in, every value escaped."""

from __future__ import annotations

import unicodedata

from nas_cntk.errors import BackendUnavailable
from nas_cntk.report.html.page import Page

TEMPLATE = "page.html"
# A line break or an escape sequence in a name must not reach a terminal that shows the file, nor a bidirectional
# override turn the text around it; half a surrogate pair (a file's name that is no UTF-8) could not be written.
_UNSEEN = ("Cc", "Cs")
_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def check_installed() -> None:
    """Raise BackendUnavailable where Jinja2 is missing."""
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise BackendUnavailable(
            "the report needs Jinja2, which is not installed: pip install 'nas-cntk[report]'"
        ) from None


def render(page: Page) -> str:
    """Return the HTML of a page.

    Raises:
        BackendUnavailable: without Jinja2.
    """
    check_installed()
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def final(value: object) -> object:
        return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=PackageLoader("nas_cntk.report.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=final,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(page=page)


def clean(value: str) -> str:
    """Return a text without characters that are not seen but do something."""
    return "".join(_seen(letter) for letter in value)


def _seen(letter: str) -> str:
    if letter in "\n\t":
        return " "
    return "\ufffd" if letter in _OVERRIDES or unicodedata.category(letter) in _UNSEEN else letter
