"""Pages: a breakdown, a diff or several records as one HTML file that works offline, better with its own script."""

from bertprof.report.page.breakdown import fragment, render
from bertprof.report.page.diff import diff_fragment, render_diff
from bertprof.report.page.several import render_several

__all__ = ["diff_fragment", "fragment", "render", "render_diff", "render_several"]
