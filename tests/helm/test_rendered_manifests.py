"""Every set of values lints, renders, and is what Kubernetes and the operators accept."""

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED_FIXTURES
from tests.helm.conftest import NAMESPACE, RELEASE, Chart, Resource
from tests.helm.manifests import of_kind
from tests.helm.sets import ALL, CHART

KUBERNETES = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36")
CUSTOM = {
    "RayService": "rayservice_v1",
    "LeaderWorkerSet": "leaderworkerset_v1",
    "ScaledObject": "scaledobject_v1alpha1",
    "GRPCRoute": "grpcroute_v1",
    "ServiceMonitor": "servicemonitor_v1",
    "PrometheusRule": "prometheusrule_v1",
}
WITHOUT_SCHEMA = {"Certificate"}


@pytest.mark.integration
def test_there_are_enough_sets_of_values() -> None:
    assert len(ALL) >= 12


@pytest.mark.integration
@pytest.mark.parametrize("name", ALL)
def test_helm_lints_the_chart_strictly(chart: Chart, name: str) -> None:
    done = chart.run("lint", "--strict", str(CHART), *chart.values_arguments(name))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def kubernetes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """kubernetes-validate, which otherwise reads megabytes of definitions again for each manifest."""
    validator = pytest.importorskip("kubernetes_validate", reason="needs stepaudio[k8s]")
    monkeypatch.setattr(validator.utils, "schema_contents", _read_once(validator.utils.schema_contents))
    return validator


@pytest.mark.integration
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_every_manifest(chart: Chart, kubernetes: Any, version: str) -> None:
    seen = set()
    for name in ALL:
        for resource in chart.render(name):
            text = json.dumps(resource, sort_keys=True)
            if resource["kind"] in {*CUSTOM, *WITHOUT_SCHEMA} or text in seen:
                continue
            seen.add(text)
            kubernetes.validate(resource, version, strict=True)
    assert len(seen) > 100


@pytest.mark.integration
def test_kubernetes_refuses_what_the_chart_does_not_write(chart: Chart, kubernetes: Any) -> None:
    deployment = json.loads(json.dumps(of_kind(chart.render("nano"), "Deployment")[0]))
    deployment["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(deployment, "1.33", strict=True)


@pytest.mark.integration
@pytest.mark.parametrize("kind", CUSTOM)
def test_operators_accept_every_custom_resource(chart: Chart, kind: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="needs stepaudio[k8s]")
    validator = jsonschema.Draft7Validator(_strict_schema(kind))
    found = [one for name in ALL for one in of_kind(chart.render(name), kind)]
    assert found, f"no set of values makes a {kind}"
    for resource in found:
        errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(resource)]
        assert not errors, errors


@pytest.mark.integration
@pytest.mark.parametrize(
    ("kind", "path", "wrong"),
    [
        ("RayService", "spec.rayClusterConfig.headGroupSpec.startParams", {}),
        ("RayService", "spec.rayClusterConfig.authOptions.mode", "tokens"),
        ("RayService", "spec.rayClusterConfig.gcsFaultToleranceOptions.redisAddress", 6379),
        ("LeaderWorkerSet", "spec.leaderWorkerTemplate.size", "two"),
        ("LeaderWorkerSet", "spec.rolloutStrategy.partition", 1),
        ("ScaledObject", "spec.minReplicas", 1),
        ("ScaledObject", "spec.fallback.replicas", "one"),
        ("GRPCRoute", "spec.hosts", ["voice.example.org"]),
    ],
)
def test_operators_refuse_a_custom_resource_that_is_wrong(chart: Chart, kind: str, path: str, wrong: object) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="needs stepaudio[k8s]")
    found = next(one for name in ALL for one in of_kind(chart.render(name), kind))
    broken = json.loads(json.dumps(found))
    *parents, key = path.split(".")
    place = broken
    for parent in parents:
        place = place.setdefault(parent, {})
    place[key] = wrong
    assert list(jsonschema.Draft7Validator(_strict_schema(kind)).iter_errors(broken))


@pytest.mark.integration
@pytest.mark.parametrize("name", ALL)
def test_every_resource_has_one_name_and_the_labels_of_the_chart(chart: Chart, name: str) -> None:
    resources = chart.render(name)
    names = [(one["kind"], one["metadata"]["name"]) for one in resources]
    assert len(names) == len(set(names))
    prefix = "voice" if name == "placed" else RELEASE
    for one in resources:
        meta = one["metadata"]
        is_of_the_cluster = one["kind"].startswith("ValidatingAdmissionPolicy")
        assert meta["name"].startswith(f"{NAMESPACE}-{prefix}-" if is_of_the_cluster else f"{prefix}-")
        assert len(meta["name"]) <= 63
        assert meta.get("namespace") == (None if is_of_the_cluster else NAMESPACE)
        assert meta["labels"]["app.kubernetes.io/name"] == "stepaudio"
        assert meta["labels"]["app.kubernetes.io/instance"] == RELEASE
        assert meta["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert meta["labels"]["app.kubernetes.io/component"]
        assert meta["labels"]["helm.sh/chart"].startswith("stepaudio-")
        if name == "placed":
            assert meta["labels"]["cost-centre"] == "speech"


@pytest.mark.integration
def test_no_manifest_holds_a_secret(chart: Chart) -> None:
    for name in ALL:
        assert not of_kind(chart.render(name), "Secret")


@pytest.mark.integration
def test_one_template_makes_one_kind_of_resource() -> None:
    for path in (CHART / "templates").rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert text.count("\nkind: ") + text.startswith("kind: ") <= 1, path


def _read_once(read: Callable[[str, str], Any]) -> Callable[[str, str], Any]:
    return functools.cache(read)


def _strict_schema(kind: str) -> Resource:
    path: Path = SHARED_FIXTURES / "crd-schemas" / f"{CUSTOM[kind]}.json"
    if not path.is_file():
        pytest.skip(f"the schema of {kind} is not beside this checkout")
    schema: Resource = json.loads(path.read_text(encoding="utf-8"))
    for place in _objects(schema, ""):
        place.setdefault("additionalProperties", False)
    return schema


def _objects(schema: Any, key: str) -> Iterator[dict[str, Any]]:
    """Every object's schema that lists its properties, but metadata, which Kubernetes itself knows."""
    if isinstance(schema, dict):
        if "properties" in schema and isinstance(schema["properties"], dict) and key != "metadata":
            if not schema.get("x-kubernetes-preserve-unknown-fields"):
                yield schema
            for name, part in schema["properties"].items():
                yield from _objects(part, name)
        for name in ("items", "additionalProperties"):
            if isinstance(schema.get(name), dict):
                yield from _objects(schema[name], name)
