"""A job that has left files of each kind."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apps.artifacts.models import Artifact
    from apps.jobs.models import Job
    from tests.browser.stage import Stage

SCRIPT = r"""
cd "$ARTIFACTS_DIR"
mkdir -p plots packages
printf 'run,read ms,write ms,note\n' > times.csv
for n in 1 2 3 4 5 6 7 8; do printf '%s,%s,%s,"=1+%s, as text"\n' $n $((11 + n)) $((30 + n * 2)) $n; done >> times.csv
printf '# Release 2.4.0\n\nAll **214** tests passed.\n\n* `api` is 12 %% faster\n* two warnings\n\n| part | size |\n| --- | --- |\n| app | 18 MB |\n' > notes.md
printf '{"passed": 214, "failed": 0, "slowest": ["login", "import"]}' > summary.json
echo "$PICTURE" | base64 -d > plots/pixel.png
printf '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 120"><rect width="400" height="120" fill="#eef"/><polyline points="0,100 80,60 160,80 240,30 320,45 400,10" fill="none" stroke="#35c" stroke-width="4"/><script>parent.document.title="run"</script></svg>' > plots/trend.svg
printf '<!doctype html><title>x</title><h1>Coverage 94 %%</h1><p id="p">Nothing runs here.</p><script>document.getElementById("p").textContent="IT RAN"; top.location="/admin/"</script><img src="/api/auth/me" onerror="document.body.textContent=1">' > coverage.html
printf '%%PDF-1.1\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]>>endobj\ntrailer<</Root 1 0 R>>\n' > paper.pdf
head -c 40000 /dev/zero > packages/app-2.4.0.bin
"""
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAYAAACNMs+9AAAAFUlEQVR42mNk+M9Qz0AEYBxVSF+FAAhKDveksOjmAA"
    "AAAElFTkSuQmCC"
)
FILES = f"""
tasks:
  report:
    name: Nightly measurements
    flow:
      measure:
        type: script
        env: {{ PICTURE: "{PICTURE}" }}
        artifacts: {{ retain: 30d }}
        script: |
{textwrap.indent(SCRIPT, " " * 10)}
"""


def prepare(stage: Stage) -> Job:
    from apps.jobs.models import Job

    if stage.has("measurements"):
        return Job.objects.filter(workspace__name="measurements").latest("created_at")
    stage.workspace("measurements", FILES)
    return stage.until_job(stage.start("report", None, "measurements"), "completed", "failed")


def page_of(job: Job, name: str) -> str:
    return f"/admin/jobs/job/{job.pk}/artifacts/{artifact(job, name).pk}/"


def artifact(job: Job, name: str) -> Artifact:
    from apps.artifacts.models import Artifact

    return Artifact.objects.get(job_id=job.pk, name=name)
