"""What helm does to a cluster's objects over the life of a release, seen at a stand-in for its API server."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.api_server import ApiServer
from tests.helm.conftest import NAMESPACE, RELEASE, Chart
from tests.helm.manifests import of_kind
from tests.helm.sets import ALL, CHART

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True)
class Cluster:
    """A stand-in, and helm speaking to it."""

    chart: Chart
    api: ApiServer
    kubeconfig: Path

    def helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run helm; it must succeed."""
        here = ["--namespace", NAMESPACE, "--kubeconfig", str(self.kubeconfig), "--qps=1000", "--burst-limit=1000"]
        done = self.chart.run(*arguments, *here)
        assert done.returncode == 0, done.stderr
        return done

    def image_of(self, room: str) -> str:
        """The image that a room's Deployment asks for now."""
        return str(self._deployment(room)["spec"]["template"]["spec"]["containers"][0]["image"])

    def mine(self) -> set[tuple[str, str]]:
        """Kinds and names of all that is there, but helm's own records."""
        return {
            (one["kind"], one["metadata"]["name"])
            for one in self.api.objects.values()
            if one.get("type") != "helm.sh/release.v1"
        }

    def _deployment(self, room: str) -> Any:
        return self.api.objects[f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{RELEASE}-{room}"]


@pytest.fixture
def cluster(chart: Chart, tmp_path: Path) -> Iterator[Cluster]:
    """An empty cluster that knows every kind that the chart makes."""
    kinds = {(one["apiVersion"], one["kind"]) for name in ALL for one in chart.render(name)}
    api = ApiServer(kinds)
    with api.serve() as address:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": address}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "current-context": "here",
        }
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
        yield Cluster(chart, api, kubeconfig)


def _arguments(*more: str) -> list[str]:
    values = CHART / "values" / "nano.yaml"
    return [RELEASE, str(CHART), "--disable-openapi-validation", "--values", str(values), *more]


def test_a_release_is_installed_upgraded_rolled_back_and_removed(cluster: Cluster) -> None:
    cluster.helm("install", *_arguments())
    rendered = {(one["kind"], one["metadata"]["name"]) for one in cluster.chart.render("nano")}
    assert cluster.mine() == rendered
    before = cluster.image_of("lm")

    cluster.helm("upgrade", *_arguments("--set", "images.lm.tag=next-cpu", "--set", "autoscaling.enabled=true"))
    assert cluster.image_of("lm").endswith(":next-cpu")
    assert cluster.api.names("ScaledObject") == {f"{RELEASE}-{part}" for part in _SCALED}

    cluster.helm("rollback", RELEASE, "1")
    assert cluster.image_of("lm") == before
    assert cluster.mine() == rendered, "what the upgrade brought is gone again"
    history = json.loads(cluster.helm("history", RELEASE, "--output", "json").stdout)
    assert [one["status"] for one in history] == ["superseded", "superseded", "deployed"]

    cluster.helm("uninstall", RELEASE)
    assert cluster.mine() == set()


def test_an_upgrade_touches_only_what_it_changes(cluster: Cluster) -> None:
    cluster.helm("install", *_arguments())
    before = {path: one["spec"] for path, one in cluster.api.objects.items() if one["kind"] == "Deployment"}
    cluster.helm("upgrade", *_arguments("--set", "lm.maxBatch=4"))
    after = {path: one["spec"] for path, one in cluster.api.objects.items() if one["kind"] == "Deployment"}
    assert [path.rpartition("/")[2] for path in before if before[path] != after[path]] == [f"{RELEASE}-lm"]


def test_switching_the_orchestrator_to_ray_replaces_its_deployment(cluster: Cluster) -> None:
    cluster.helm("install", *_arguments())
    cluster.helm("upgrade", *_arguments("--set", "orchestrator.mode=kuberay"))
    assert cluster.api.names("RayService") == {f"{RELEASE}-orchestrator"}
    assert f"{RELEASE}-orchestrator" not in cluster.api.names("Deployment")


def test_the_checkpoints_outlive_the_release(cluster: Cluster) -> None:
    values = cluster.chart.values_arguments("download-from-hub")
    cluster.helm("install", RELEASE, str(CHART), "--disable-openapi-validation", *values)
    assert of_kind(cluster.api.objects.values(), "Job")
    cluster.helm("uninstall", RELEASE)
    assert cluster.mine() == {("PersistentVolumeClaim", f"{RELEASE}-checkpoints")}


def test_another_download_is_another_job(cluster: Cluster) -> None:
    values = cluster.chart.values_arguments("download-from-hub")
    cluster.helm("install", RELEASE, str(CHART), "--disable-openapi-validation", *values)
    first = cluster.api.names("Job")
    more = ["--set", "checkpoints.download.retries=3"]
    cluster.helm("upgrade", RELEASE, str(CHART), "--disable-openapi-validation", *values, *more)
    second = cluster.api.names("Job")
    assert len(first) == len(second) == 1
    assert first != second
    jobs = [path for method, path in cluster.api.changes if "/jobs/" in path and method == "PATCH"]
    assert len(set(jobs)) == len(jobs), "no Job is ever changed"


_SCALED = ("orchestrator", "tokenizer", "lm", "tts", "vocoder")
