"""The page in a real Chromium, on a server with the real engine."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e import files
from tests.e2e.conftest import REPOSITORY, Server

SCREENSHOTS = Path(os.environ.get("SCREENSHOTS", REPOSITORY / "tests" / "artifacts"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "install Debian's chromium; .ci/run does"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A window in which nothing goes wrong unseen."""
    context = browser.new_context(
        base_url=str(server.http.base_url), viewport={"width": 1200, "height": 900}
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    yield page
    context.close()
    assert complaints == []


def keep(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def choose_files(page: Page, tmp_path: Path) -> None:
    content = {
        "file": ("net.pt", files.torchscript()),
        "calibration": ("samples.npz", files.npz(inputs=files.inputs())),
        "evaluation": ("test.npz", files.npz(inputs=files.inputs(40), labels=files.labels(40))),
    }
    for field, (name, data) in content.items():
        (tmp_path / name).write_bytes(data)
        page.set_input_files(f"input[name={field}]", tmp_path / name)


def test_a_network_is_sent_watched_and_looked_at(page: Page, tmp_path: Path) -> None:
    page.goto("/jobs")
    page.get_by_role("link", name="New job", exact=True).click()
    choose_files(page, tmp_path)
    page.locator("[name=amount]").fill("60")
    page.locator("[name=max_accuracy_drop]").fill("100")
    page.locator("[name=label]").fill("from chromium")
    keep(page, "new")
    page.get_by_role("button", name="Compress").click()
    expect(page.get_by_role("heading", name="net.pt")).to_be_visible()
    expect(page.locator("#step")).not_to_have_text(re.compile("waiting|starting"), timeout=60_000)
    keep(page, "running")
    expect(page.locator(".under .chip")).to_have_text("succeeded", timeout=120_000)  # by itself
    expect(page.get_by_text("All gates hold")).to_be_visible()
    expect(page.locator(".bar")).not_to_have_count(0)
    expect(page.locator("svg.curve circle")).not_to_have_count(0)
    keep(page, "job")
    with page.expect_download() as download:
        page.get_by_role("link", name="model.pt").click()
    assert Path(download.value.path()).stat().st_size > 1000
    page.get_by_role("button", name="Run again").click()
    expect(page.locator(".under .chip")).to_have_text(re.compile("queued|running"))
    expect(page.locator("#lasted")).to_have_text(re.compile(r"^\d+ s$"))  # it counts by itself
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".under .chip")).to_have_text("cancelled", timeout=20_000)
    page.goto("/jobs?label=from+chromium")
    expect(page.locator("table.jobs tbody tr")).to_have_count(2)
    keep(page, "jobs")


def test_on_a_phone_nothing_lies_outside(page: Page) -> None:
    page.set_viewport_size({"width": 375, "height": 700})
    page.goto("/jobs")
    keep(page, "jobs-phone")
    first = page.locator("table.jobs a").first
    for look in ("jobs", "job", "new"):
        if look == "job":
            first.click()
            keep(page, "job-phone")
        if look == "new":
            page.goto("/jobs/new")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, look


def test_without_javascript_everything_but_live_progress_works(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    context = browser.new_context(
        base_url=str(server.http.base_url), java_script_enabled=False, color_scheme="dark"
    )
    page = context.new_page()
    page.goto("/jobs/new")
    choose_files(page, tmp_path)
    page.get_by_role("button", name="Compress").click()
    expect(page.locator(".under .chip")).to_have_text("succeeded", timeout=120_000)  # it reloads
    keep(page, "job-dark")
    context.close()


def test_everything_has_a_name_and_can_be_reached_by_keyboard(page: Page) -> None:
    for address in ("/jobs", "/jobs/new"):
        page.goto(address)
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll('input:not([type=hidden]), select, button, a')]
            .filter(e => !(e.labels?.length || e.textContent.trim() || e.ariaLabel))
            .map(e => e.outerHTML)"""
        )
        assert unnamed == []
        assert page.locator("h1").count() == 1
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
