"""The templates of pages. What stands in them is inert: it is escaped, and the page forbids any script but its own."""

import base64
import hashlib
import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from bertprof import formatting


def loaded(name: str) -> Template:
    """A template by its file's name."""
    return _environment().get_template(name)


_RTL = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]"
"""Letters that are written from right to left, of Unicode's blocks for their scripts."""

_RTL_RUN = re.compile(f"{_RTL}(?:[^A-Za-z<>&→]*{_RTL})*")


def isolated(text: str) -> Markup:
    """Text for a sentence, escaped: a name in it that is written from right to left leaves the order of the rest."""
    return Markup(_RTL_RUN.sub(r"<bdi>\g<0></bdi>", str(Markup.escape(text))))


@cache
def _environment() -> Environment:
    loader = PackageLoader("bertprof.report")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = loader.get_source(environment, "script.js")[0]
    script = re.sub(r"^ *//.*\n|^ +|^\n", "", script, flags=re.MULTILINE)  # comments and indentation stay here
    # A policy in the page names the one script that may run by its hash (W3C, Content Security Policy Level 3, 6.7.3).
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals.update(script=Markup(script), script_hash=f"sha256-{digest}")
    environment.filters.update(plain=formatting.plain, isolated=isolated)
    return environment
