"""The survey (Ganesh et al. 2020, arXiv 2002.11985v1): its claims and tables as data, checked against Breakdowns."""
