"""What agents add to the pages."""

from __future__ import annotations

from apps.adminkit import panels
from apps.agents import pages

panels.dashboard.add("agents/cost_panel.html", pages.cost_panel, order=55, is_wide=True)
