"""The survey's methods beside BERT-base, a bar each."""

from bertprof.report import beside, survey_methods
from bertprof.report.figure.drawing import Bars, Figure, Sheet, place
from bertprof.report.palette import color_of
from bertprof.survey.methods import Methods

_ROW_MM = 4.5


def draw(document: Methods, width_mm: float) -> Figure:
    """One bar a method, stacked by component, in % of BERT-base; one panel each for size, MACs and, where known, time.

    A method that did not run has its name and no bar; nor has one a time that is not that of its weights as stored.
    """
    shown = survey_methods.rows(document)
    groups = survey_methods.groups(document)
    sheet = Sheet(width_mm)
    sheet.heading(survey_methods.TITLE, beside.setting(document)[0])
    panels = []
    for metric in survey_methods.panels(document):
        bars = Bars(survey_methods.PANELS[metric], "% of BERT-base", len(shown))
        bars.mark = 100
        for i, row in enumerate(shown):
            end = 0.0
            for group in groups:
                parts = row.measured.of(*survey_methods.GROUPS[group]) if row.measured is not None else []
                length = (row.measured.percent(metric, parts) if row.measured is not None else None) or 0.0
                bars.add(i, end, end + length, color=color_of(group))
                end += length
            bars.labels[i] = survey_methods.bar_label(row, metric)
        panels.append(bars)
    place(sheet, [survey_methods.name_with_work(row) for row in shown], panels, _ROW_MM)
    sheet.legend({group: color_of(group) for group in groups})
    return sheet.finished()
