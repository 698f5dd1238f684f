"""Pages of `docs/` for callers of the API, as HTML beside the docs page: `/docs/errors`.

The text is written once, in Markdown, for readers of the repository and of the gateway alike.
"""

import functools
import importlib.resources
from pathlib import Path
from string import Template

from markdown_it import MarkdownIt
from markdown_it.token import Token

GUIDES = {"errors": "Errors"}  # the file's name in docs/, which is the address too -> the title


def guide_text(name: str) -> str:
    """The Markdown of a guide: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "docs", package.parent / "docs"):
        if (file := folder / f"{name}.md").is_file():
            return file.read_text(encoding="utf-8")
    raise FileNotFoundError(f"no {name}.md in {package / 'docs'} nor in {package.parent / 'docs'}")


@functools.cache
def page_of(name: str) -> bytes:
    """The HTML page of a guide, made once per process."""
    markdown = MarkdownIt("commonmark").enable("table")
    tokens = markdown.parse(guide_text(name))
    _name_rows(tokens)
    body = markdown.renderer.render(tokens, markdown.options, {})
    frame = (importlib.resources.files(__package__) / "docs_page" / "guide.html").read_text(encoding="utf-8")
    return Template(frame).substitute(title=GUIDES[name], body=body).encode()


def _name_rows(tokens: list[Token]) -> None:
    """Give the first row of each status an id, so that a link leads to it: `errors#404`."""
    row, named = None, set()
    for token in tokens:
        if token.type == "tr_open":
            row = token
        elif row and token.type == "inline" and token.content.isdecimal() and token.content not in named:
            named.add(token.content)
            row.attrSet("id", token.content)
