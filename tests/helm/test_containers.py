"""What `make podman` gives to podman: the pods of the rendered chart whole, and nothing bridged that is not listed."""

import copy
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from helm.containers import manifests, packages, roots
from tests.conftest import ROOT
from tests.helm.conftest import NAMESPACE, RELEASE, Chart, Resource
from tests.helm.manifests import named

pytestmark = pytest.mark.integration

Rendered = tuple[Resource, ...]

SECRETS = {("stepaudio-redis", "password"): "secret"}
WORKLOADS = ("lm", "orchestrator", "redis", "tokenizer", "tts", "vocoder")


@pytest.fixture(scope="module")
def rendered(chart: Chart) -> Rendered:
    """Preset nano as it is installed on one machine: without TLS."""
    plain = ("--set", "api.tls.enabled=false", "--set", "redis.tls.enabled=false")
    done = chart.template(*chart.values_arguments("nano"), *plain)
    assert done.returncode == 0, done.stderr
    return tuple(found for found in yaml.safe_load_all(done.stdout) if found)


@pytest.fixture(scope="module")
def plan(rendered: Rendered) -> manifests.Plan:
    """What is played of it."""
    return manifests.plan(rendered, secrets=SECRETS)


def test_every_workload_of_nano_is_played_and_nothing_is_changed(rendered: Rendered) -> None:
    before = copy.deepcopy(rendered)
    played = manifests.plan(rendered, secrets=SECRETS)
    assert rendered == before
    assert sorted(play.component for play in played.plays) == list(WORKLOADS)


def test_a_deployment_is_played_as_rendered_but_for_what_is_listed(rendered: Rendered, plan: manifests.Plan) -> None:
    (play,) = (one for one in plan.plays if one.component == "lm")
    (played,) = play.documents
    expected = copy.deepcopy(named(rendered, "Deployment", f"{RELEASE}-lm"))
    (container,) = expected["spec"]["template"]["spec"]["containers"]
    for field in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle"):
        assert f"Deployment/{RELEASE}-lm: {field}" in plan.unused_fields
        del container[field]
    assert played == expected


def test_a_stateful_set_becomes_the_pod_and_the_claim_of_its_controller(
    rendered: Rendered, plan: manifests.Plan
) -> None:
    (play,) = (one for one in plan.plays if one.component == "redis")
    scripts, claim, pod = play.documents
    template = named(rendered, "StatefulSet", f"{RELEASE}-redis")["spec"]["template"]
    assert play.pod == pod["metadata"]["name"] == f"{RELEASE}-redis-0"
    assert (scripts["kind"], claim["kind"], pod["kind"]) == ("ConfigMap", "PersistentVolumeClaim", "Pod")
    assert claim["metadata"]["name"] == f"data-{RELEASE}-redis-0"
    assert {"name": "data", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}} in pod["spec"]["volumes"]
    assert len(pod["spec"]["volumes"]) == len(template["spec"]["volumes"]) + 1
    assert pod["metadata"]["labels"] == template["metadata"]["labels"]


def test_every_name_that_the_orchestrator_calls_is_some_pods_alias(rendered: Rendered, plan: manifests.Plan) -> None:
    pod = named(rendered, "Deployment", f"{RELEASE}-orchestrator")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    text = " ".join(one.get("value", "") for one in container["env"])
    called = set(re.findall(rf"[\w.-]+\.{NAMESPACE}\.svc", text))
    assert len(called) == 5
    aliases = [alias for play in plan.plays for alias in play.aliases]
    assert called <= set(aliases)
    assert len(aliases) == len(set(aliases)), "no name means two pods"


def test_the_stores_password_is_written_out_where_the_kubelet_would(plan: manifests.Plan) -> None:
    (play,) = (one for one in plan.plays if one.component == "orchestrator")
    (container,) = play.documents[-1]["spec"]["template"]["spec"]["containers"]
    (url,) = (one["value"] for one in container["env"] if one["name"] == "STEPAUDIO_REDIS_URL")
    assert url == f"redis://:secret@{RELEASE}-redis-0.{RELEASE}-redis.{NAMESPACE}.svc:6379"


def test_the_probes_that_are_asked_are_the_charts(plan: manifests.Plan) -> None:
    probes = {play.component: play.probes for play in plan.plays}
    (room,), (orchestrator,), (store,) = probes["lm"], probes["orchestrator"], probes["redis"]
    assert (room.kind, room.port, room.patience_s) == ("grpc", 8001, 300.0)
    assert room.container == f"{RELEASE}-lm-pod-triton"
    assert (orchestrator.kind, orchestrator.port, orchestrator.patience_s) == ("grpc", 8443, 120.0)
    assert store.kind == "exec"
    assert store.command == ("/bin/sh", "/opt/stepaudio/redis/ping.sh", "6379")


def test_what_has_no_effect_here_is_listed(plan: manifests.Plan) -> None:
    assert plan.unused_kinds == ("NetworkPolicy", "PodDisruptionBudget", "ServiceAccount")


def test_several_replicas_are_refused_and_not_played_as_one(rendered: Rendered) -> None:
    resources = copy.deepcopy(rendered)
    named(resources, "Deployment", f"{RELEASE}-lm")["spec"]["replicas"] = 2
    with pytest.raises(ValueError, match=f"Deployment/{RELEASE}-lm has 2 replicas"):
        manifests.plan(resources, secrets=SECRETS)


def test_a_probe_that_nobody_here_can_ask_is_refused(rendered: Rendered) -> None:
    resources = copy.deepcopy(rendered)
    (container,) = named(resources, "Deployment", f"{RELEASE}-tts")["spec"]["template"]["spec"]["containers"]
    container["readinessProbe"] = {"tcpSocket": {"port": 8001}, "periodSeconds": 5}
    with pytest.raises(ValueError, match=f"{RELEASE}-tts-pod-triton.*tcpSocket"):
        manifests.plan(resources, secrets=SECRETS)


def test_the_stand_in_has_the_name_of_the_base_that_is_baked() -> None:
    bake = (ROOT / "docker-bake.hcl").read_text(encoding="utf-8")
    assert f'"{roots.PYTHON.image}"' in bake


def test_pip_in_a_build_is_told_what_pip_here_is_told(tmp_path: Path) -> None:
    wheels, authorities = tmp_path / "wheels", tmp_path / "authorities"
    wheels.mkdir()
    authorities.write_text("PEM", encoding="utf-8")
    listed = (
        f"global.find-links='/elsewhere'\n:env:.find-links='{wheels}'\n:env:.cert='{authorities}'\nlist.format='json'\n"
    )
    listed += "global.extra-index-url='file:///mirror/simple https://index.example/simple'\n"
    settings = packages.write_pip_settings(listed, tmp_path / "settings")
    written = (settings.folder / "pip.conf").read_text(encoding="utf-8")
    assert f"find-links = {wheels}\n" in written
    assert "cert = /pip/authorities.pem\n" in written
    assert "format" not in written
    assert (settings.folder / "authorities.pem").read_text(encoding="utf-8") == "PEM"
    assert settings.local == (Path("/mirror"), wheels)
    assert "TORCH_INDEX=file:///mirror/simple" in settings.build_arguments()


def test_a_build_keeps_the_dockerfiles_own_index_where_pip_here_has_no_further(tmp_path: Path) -> None:
    settings = packages.write_pip_settings("", tmp_path)
    assert not [argument for argument in settings.build_arguments() if "TORCH_INDEX" in argument]


def test_shellcheck_finds_nothing_in_the_script_of_namespaces() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs stepaudio[k8s]")
    script = ROOT / "helm" / "containers" / "enter.sh"
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout
