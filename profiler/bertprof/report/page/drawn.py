"""Figures with axes inside of a page, in its own colours."""

import html
import re

from markupsafe import Markup

_BEHIND = re.compile(r'<g id="background">.*?</g>\s*', re.DOTALL)
_ASIDE = re.compile(r"<metadata>.*?</metadata>\s*|<style[^>]*>.*?</style>\s*|<!--.*?-->\s*", re.DOTALL)


def inline_svg(content: bytes, described: str) -> Markup:
    """A figure for the inside of a page: it shrinks with the page, and what is black in it is as the page's text.

    What is behind it, names that nothing refers to and styles that would be the page's go.

    Args:
        content: the SVG file, as `bertprof.report.figure` makes it.
        described: what it shows, for who does not see it.
    """
    svg = content.decode()
    svg = _ASIDE.sub("", _BEHIND.sub("", svg[svg.index("<svg") :], count=1))
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    used = set(re.findall(r"#([^\"')\s;]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = _slim(svg).replace("#000000", "currentColor")
    own = f'role="img" aria-label="{html.escape(described)}" fill="currentColor" stroke-linejoin="round"'
    return Markup(svg.replace("<svg", f"<svg {own}", 1))


_FONT = "font-family: 'DejaVu Sans', sans-serif; "
_COORDINATE = re.compile(r"-?\d+\.\d{3,}")


def _slim(svg: str) -> str:
    """The same in fewer bytes: coordinates to 0.01 pt, no white space between elements, the font named once."""
    svg = re.sub(r"\s+", " ", svg).replace("> <", "><")
    svg = re.sub(r"<[^>]*>", lambda tag: _COORDINATE.sub(_rounded, tag[0]), svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    return svg.replace(_FONT, "").replace("<svg", '<svg font-family="DejaVu Sans, sans-serif"', 1)


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
