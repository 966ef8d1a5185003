"""A report as one file: everything in it, nothing loaded, nothing run."""

from __future__ import annotations

import re

from intrafusion.report import GroupReport, SearchReport, TryReport
from service.web.reports import report_page
from tests.service.web.test_pages import report

SEARCH = SearchReport(
    budget="max_accuracy_drop",
    limit=0.01,
    minimised="parameters",
    tries=[
        TryReport(share=share, parameters=size, macs=size, accuracy=accuracy, within=accuracy > 0.9)
        for share, size, accuracy in ((0.5, 50, 0.91), (0.25, 25, 0.7))
    ],
)


def test_a_report_is_one_page_with_its_pictures() -> None:
    group = GroupReport(name="conv1.weight", units=32, kept=12, layers=[], parameter_share=1)
    told = report(accuracy=0.90).model_copy(update={"groups": [group], "search": SEARCH})
    page = report_page(told, name="net.pt", job_id="job_1")
    for expected in ("net.pt", "job_1", "90.00\u202f%", "−1.00 points", "conv1", "12 <span"):
        assert expected in page
    assert page.count('class="tried" cx=') == 2
    assert "other jobs" not in page
    assert "--accent" in page  # the style sheet itself
    assert not re.search(r"<script|<link|<img|\bsrc=|href=|url\(", page)


def test_what_a_job_writes_stays_text() -> None:
    hostile = "</style><script>alert(1)</script>"
    group = GroupReport(name=hostile, units=2, kept=1, layers=[], parameter_share=1)
    told = report(accuracy=0.5).model_copy(update={"groups": [group], "warnings": [hostile]})
    page = report_page(told, name=hostile, job_id="job_1")
    assert "<script" not in page
    assert page.count("</style>") == 1
