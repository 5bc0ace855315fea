"""Every file that is made from code, with its text. Only this module knows where the chart keeps them."""

import json
from pathlib import Path
from typing import Final

from monitoring.dashboards import dashboards
from monitoring.objectives import rules_text

ROOT: Final = Path(__file__).resolve().parents[1]
CHART_FILES: Final = ROOT / "helm" / "stepaudio" / "files" / "monitoring"
RULES: Final = CHART_FILES / "rules"
DASHBOARDS: Final = CHART_FILES / "dashboards"


def generated_files() -> dict[Path, str]:
    """Path and text of each file."""
    files = {RULES / "objectives.yaml": rules_text()}
    for name, dashboard in dashboards().items():
        files[DASHBOARDS / f"{name}.json"] = json.dumps(dashboard, indent=2, sort_keys=True) + "\n"
    return files
