"""Job page: the files that its steps have left."""

from apps.adminkit import panels
from apps.artifacts.files import pages

panels.job_page.add("artifacts/job_panel.html", pages.job_panel, order=15)
