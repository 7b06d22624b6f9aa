"""Numbers, figures and pages from finished stages: frame → compute → draw → assemble.

Reads what stages wrote, runs no model and asks no judge. `understudy.report` loads this package.
"""

from .assemble import write_curve, write_report
from .routing import fig_routing, table_routing

__all__ = ["fig_routing", "table_routing", "write_curve", "write_report"]
