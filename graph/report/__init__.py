"""The report of one campaign: what it did, why, who agreed, what it cost, and how to undo it.

report = gather(store, "trimul-1", metric)       # frozen data; `pawl report CAMPAIGN --json` prints it
html = render(report)                            # one page that needs nothing but itself
"""

from .data import CampaignReport
from .gather import gather
from .page import render

__all__ = ["CampaignReport", "gather", "render"]
