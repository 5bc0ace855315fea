"""What k8s/ brings: manifests that Kubernetes takes, overlays that fit their presets, no copies of the chart."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.helm.conftest import Chart
from tests.helm.manifests import of_kind
from tests.helm.sets import CHART, PRESETS

pytestmark = pytest.mark.integration

K8S = ROOT / "k8s"


def _documents(path: Path) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(path.read_text(encoding="utf-8")) if found]


@pytest.mark.parametrize("name", ["namespace.yaml", "priority-classes.yaml", "gpu/mig.yaml", "storage/classes.yaml"])
def test_kubernetes_accepts_what_comes_before_the_chart(name: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="needs stepaudio[k8s]")
    for found in _documents(K8S / name):
        validator.validate(found, "1.33", strict=True)


def test_the_namespace_enforces_the_restricted_standard() -> None:
    labels = _documents(K8S / "namespace.yaml")[0]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(
    ("preset", "overlay"), [("nano", "staging"), *((preset, "production") for preset in PRESETS if preset != "nano")]
)
def test_an_overlay_renders_over_its_preset(chart: Chart, tmp_path: Path, preset: str, overlay: str) -> None:
    digests = {name: {"repository": f"x/{name}", "tag": "", "digest": f"sha256:{'0' * 64}"} for name in _images()}
    images = tmp_path / "images.yaml"
    images.write_text(yaml.safe_dump({"images": digests}), encoding="utf-8")
    arguments = [
        *("--values", str(CHART / "values" / f"{preset}.yaml")),
        *("--values", str(K8S / "overlays" / f"{overlay}.yaml")),
        *("--values", str(images)),
    ]
    done = chart.template(*arguments)
    assert done.returncode == 0, done.stderr
    resources = [found for found in yaml.safe_load_all(done.stdout) if found]
    assert of_kind(resources, "RayService")
    assert of_kind(resources, "Certificate")


def test_the_slices_are_those_that_the_presets_ask_for() -> None:
    config = yaml.safe_load(_documents(K8S / "gpu" / "mig.yaml")[0]["data"]["config.yaml"])["mig-configs"]
    for preset in ("a800x4", "h200x4"):
        cut = next(part["mig-devices"] for part in config[f"stepaudio-{preset}"] if part["mig-enabled"])
        values = yaml.safe_load((CHART / "values" / f"{preset}.yaml").read_text(encoding="utf-8"))
        asked: dict[str, int] = {}
        for room in ("tokenizer", "tts", "vocoder"):
            name = values[room]["gpu"]["resource"].removeprefix("nvidia.com/mig-")
            asked[name] = asked.get(name, 0) + 1
        assert asked == cut
        assert sum(int(name.partition("g")[0]) * count for name, count in cut.items()) <= 7


def test_nothing_in_k8s_is_a_copy_of_what_the_chart_renders(chart: Chart) -> None:
    rendered = {one["kind"] for one in chart.render("default")} - {"ConfigMap"}
    for path in K8S.rglob("*.yaml"):
        kinds = {found.get("kind") for found in _documents(path)}
        assert not kinds & rendered, path


def _images() -> list[str]:
    images = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["images"]
    return [name for name, value in images.items() if isinstance(value, dict)]
