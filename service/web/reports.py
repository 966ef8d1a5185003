"""A report as a page of its own: one file with its pictures, to be kept, sent and looked at."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources

from markupsafe import Markup

from intrafusion.report import CompressionReport
from service.web.charts import Point, curve, group_bars
from service.web.rendering import fill


def report_page(report: CompressionReport, *, name: str, job_id: str) -> str:
    """`report` as HTML that loads nothing and runs no script.

    `name` is what people call the network.
    """
    return fill(
        "report.html",
        report=report,
        name=name,
        job_id=job_id,
        artifacts=[],
        bars=group_bars(report.groups),
        curve=curve(list(report_points(report, []))),
        style=Markup(_style()),  # noqa: S704 - a file of this package
    )


def report_points(report: CompressionReport, others: Iterable[Point]) -> Iterable[Point]:
    """The original, what a search tried, `others`, and the result; none without accuracy."""
    before, after = report.before, report.after
    if before.accuracy is None or after.accuracy is None:
        return
    yield Point(before.parameters, before.accuracy, "original", "original")
    for tried in report.search.tries if report.search else ():
        if tried.accuracy is not None:
            yield Point(tried.parameters, tried.accuracy, "tried in the search", "tried")
    yield from others
    yield Point(after.parameters, after.accuracy, "this job", "result")


@cache
def _style() -> str:
    return resources.files("service.web").joinpath("static/page.css").read_text()
