"""The templates of pages. What stands in them is inert: it is escaped."""

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from bertprof import formatting


def loaded(name: str) -> Template:
    """A template by its file's name."""
    environment = Environment(
        loader=PackageLoader("bertprof.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(plain=formatting.plain)
    return environment.get_template(name)
