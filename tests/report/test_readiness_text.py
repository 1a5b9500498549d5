import re

import pytest

from bertprof.readiness import Check
from bertprof.report.readiness import render

CHECKS = [
    Check(name="timer", value="steps of 39 ns", verdict="ok"),
    Check(name="CPU clock", value="not visible", verdict="info"),
    Check(name="threads", value="4 on 2 cores", verdict="warn", advice="threads share cores: --threads 2"),
]


def test_one_row_a_check_and_advice_below():
    assert render(CHECKS, width=80) == (
        "ok    timer      steps of 39 ns\n"
        "info  CPU clock  not visible\n"
        "warn  threads    4 on 2 cores\n"
        "                 → threads share cores: --threads 2\n"
        "\n"
        "1 warning\n"
    )


def test_a_narrow_terminal():
    assert render(CHECKS, width=30) == (
        "ok    timer: steps of 39 ns\n"
        "info  CPU clock: not visible\n"
        "warn  threads: 4 on 2 cores\n"
        "      → threads share cores:\n"
        "        --threads 2\n"
        "\n"
        "1 warning\n"
    )


@pytest.mark.parametrize("width", [20, 40, 50, 80, 200])
def test_no_line_is_too_long_and_no_word_is_lost(width: int):
    checks = [*CHECKS, Check(name="noise", value="a b c d " * 20, verdict="warn", advice="do this or that " * 10)]
    text = render(checks, width)
    assert max(map(len, text.splitlines())) <= width
    for word, count in (("a", 20), ("this", 10), ("--threads", 1)):
        assert text.split().count(word) == count


def test_colours_add_nothing_else():
    coloured = render(CHECKS, width=40, color=True)
    assert "\x1b[32mok\x1b[0m    timer" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render(CHECKS, width=40)
    assert "\x1b" not in render(CHECKS, width=40)


def test_what_to_conclude():
    assert render(CHECKS[:2]).endswith("\n\nready: nothing here spoils measurements\n")
    assert render(CHECKS[2:] * 2).endswith("\n\n2 warnings\n")
    assert render([]) == "\nready: nothing here spoils measurements\n"


def test_names_of_programs_do_not_reach_the_terminal_as_commands():
    hostile = Check(name="other load", value="90 %", verdict="warn", advice="stop \x1b]0;owned\x07 (process 1)")
    assert "\x1b" not in render([hostile])
    assert "owned" in render([hostile])
