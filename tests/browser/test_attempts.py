"""Retries and waits on the page of a job: no bar without its attempts, no log pane without a word."""

from __future__ import annotations

import re
from datetime import timedelta

from django.db.models import F
from playwright.sync_api import expect

from apps.jobs.models import Step
from tests.apps.jobs.builders import fresh, start, until
from tests.browser.conftest import Opener
from tests.browser.stage import Stage

TEXT = """
tasks:
  tries:
    flow:
      flaky:
        type: script
        retry: {max_attempts: 2, delay: 1s}
        script: |
          echo "attempt $STROEM_ATTEMPT_NUMBER"
          [ "$STROEM_ATTEMPT_NUMBER" = 2 ]
  nowhere: {flow: {lost: {type: script, script: "true", tags: [moon]}}}
  silent: {flow: {quiet: {type: script, script: "true"}}}
"""


def test_each_attempt_has_its_bar_and_its_part_of_the_log(stage: Stage, opened: Opener) -> None:
    job = start(stage.workspace("attempts", TEXT), "tries")
    step = Step.objects.get(job_id=job.pk)
    page = opened(stage.vera)
    page.goto(f"{stage.job_url(job)}#step={step.pk}")
    page.get_by_role("tab", name="Timeline").click()
    bar = page.get_by_role("button", name=re.compile("flaky, completed, 2 attempts"))
    expect(bar).to_be_visible(timeout=30_000)
    expect(bar.locator(".st-bar")).to_have_count(2)
    log = page.locator("#log .st-line-text")
    expect(log).to_have_text(["attempt 1", "---- Attempt 2 ----", "attempt 2"])
    expect(page.locator("#log .st-log-empty")).to_be_hidden()


def test_a_step_that_no_worker_may_run_says_why_in_its_log(stage: Stage, opened: Opener) -> None:
    job = start(stage.workspace("nowhere", TEXT), "nowhere")
    step = Step.objects.get(job_id=job.pk)
    page = opened(stage.vera)
    page.goto(f"{stage.job_url(job)}#step={step.pk}")
    empty = page.locator("#log .st-log-empty")
    expect(empty).to_have_text(re.compile("waits for a worker with the tags that it needs"))
    Step.objects.filter(pk=step.pk).update(ready_at=F("ready_at") - timedelta(minutes=1))
    until(lambda: fresh(job).status == "failed")
    sentence = re.compile("It needs moon, script; of the live workers, stage lacks moon")
    expect(page.locator("#log .st-line-text")).to_have_text(sentence, timeout=10_000)
    expect(page.locator("#job-error")).to_have_text(sentence)


def test_a_step_that_printed_nothing_says_so(stage: Stage, opened: Opener) -> None:
    job = start(stage.workspace("silent", TEXT), "silent")
    step = Step.objects.get(job_id=job.pk)
    until(lambda: fresh(job).status == "completed")
    page = opened(stage.vera)
    page.goto(f"{stage.job_url(job)}#step={step.pk}")
    expect(page.locator("#log .st-log-empty")).to_have_text(
        "The step completed and printed nothing."
    )
