"""The terminal: what the command line prints, as wide as the terminal is."""

from bertprof.report.terminal.breakdown import render
from bertprof.report.terminal.diff import render_diff
from bertprof.report.terminal.lists import render_claims, render_models
from bertprof.report.terminal.several import render_several

__all__ = ["render", "render_claims", "render_diff", "render_models", "render_several"]
