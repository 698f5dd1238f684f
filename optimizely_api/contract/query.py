"""The query of a request target, read as browsers write it."""

from urllib.parse import parse_qsl


def read_query(text: str) -> list[tuple[str, str]]:
    """Return the (name, value) pairs of a WSGI QUERY_STRING, parameters without a value included.

    Only `&` separates (WHATWG URL, "application/x-www-form-urlencoded parsing"): a `;` belongs to its value. Raises
    UnicodeDecodeError for bytes that are not UTF-8, percent-encoded or not.
    """
    if not text.isascii():
        text = text.encode("latin-1").decode("utf-8")  # PEP 3333 hands bytes over as latin-1
    return parse_qsl(text, keep_blank_values=True, separator="&", errors="strict")
