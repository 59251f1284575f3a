"""The page as text: templates filled in, every value escaped."""

from __future__ import annotations

from nas_cntk.errors import BackendUnavailable
from nas_cntk.report.html.page import Page
from nas_cntk.report.text import clean

TEMPLATE = "page.html"


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
