"""How the modes look, in all charts alike: colours on a light and on a dark page, symbol, and dashes of lines."""

from dataclasses import dataclass

LIGHT, DARK = "#ffffff", "#15181c"  # the page behind the charts


@dataclass(frozen=True)
class Style:
    """`dashes` as in SVG's stroke-dasharray."""

    light: str
    dark: str
    shape: str
    dashes: str = "none"


STYLES = {
    "multiprocessing": Style("#c24e00", "#ff8a4c", "square"),
    "multiprocessing-kept": Style("#a33b7d", "#f09ccb", "diamond", "7 3"),
    "multiprocessing-more": Style("#8a6a00", "#e8c14a", "bar", "3 2"),
    "threads": Style("#00795a", "#3ccb9f", "triangle", "6 3"),
    "gevent": Style("#5b4bb0", "#b3a5ff", "flag", "9 2 2 2"),
    "asyncio": Style("#0072b2", "#5bb8f5", "circle"),
    "asyncio-blocked": Style("#5c5c5c", "#b9b9b9", "cross", "2 3"),
}


def css_class(mode: str) -> str:
    return f"mode-{mode}"


def luminance(colour: str) -> float:
    """Relative luminance of a colour like #0072b2 (WCAG 2.2, definition of relative luminance)."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(colour: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2); lines and symbols need 3."""
    darker, lighter = sorted((luminance(colour), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)
