"""Helm, and the chart rendered with each set of values once."""

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from helm.tools import ToolMissingError, find_helm
from tests.helm.sets import CHART, OWN, PRESETS, Values

Resource = dict[str, Any]  # a manifest is whatever Kubernetes takes

NAMESPACE = "voice"
RELEASE = "release"


class Chart:
    """The chart, rendered by helm. Args: helm: the program. scratch: for files of values."""

    def __init__(self, helm: Path, scratch: Path) -> None:
        self._helm = helm
        self._scratch = scratch
        self.render = cache(self._render)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run helm."""
        command = [str(self._helm), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def values_arguments(self, name: str) -> Sequence[str]:
        """Helm's arguments for a set of values."""
        if name in PRESETS:
            return ["--values", str(CHART / "values" / f"{name}.yaml")]
        return self.file_of(name, OWN[name])

    def file_of(self, name: str, values: Values) -> Sequence[str]:
        """Write values into a file, and give helm's arguments for it."""
        path = self._scratch / f"{name}.yaml"
        path.write_text(yaml.safe_dump(dict(values)), encoding="utf-8")
        return ["--values", str(path)]

    def template(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Render with any arguments."""
        return self.run("template", RELEASE, str(CHART), "--namespace", NAMESPACE, *arguments)

    def _render(self, name: str) -> tuple[Resource, ...]:
        done = self.template(*self.values_arguments(name))
        assert done.returncode == 0, done.stderr
        return tuple(found for found in yaml.safe_load_all(done.stdout) if found)


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Chart:
    """The chart; skips where there is no helm."""
    try:
        helm = find_helm()
    except ToolMissingError as error:
        pytest.skip(str(error))
    return Chart(helm, tmp_path_factory.mktemp("values"))
