"""What every pod of the chart promises: its security, its health, its place, and how it ends."""

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.conftest import Chart
from tests.helm.manifests import PodTemplate, Resource, matches, named, of_kind, pods
from tests.helm.sets import ALL, CHART, PRESETS, ROOM_ENVIRONMENT

ROOMS = ("tokenizer", "lm", "tts", "vocoder")
LONGEST_TURN_S = 120
_RESTRICTED_VOLUMES = {"emptyDir", "secret", "configMap", "persistentVolumeClaim", "csi", "image"}

pytestmark = pytest.mark.integration


@pytest.fixture(params=ALL)
def resources(request: pytest.FixtureRequest, chart: Chart) -> tuple[Resource, ...]:
    """The chart with one set of values after the other."""
    return chart.render(request.param)


def test_every_pod_is_restricted(resources: tuple[Resource, ...]) -> None:
    for pod in pods(resources):
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"] is True, pod.owner
        assert security["runAsUser"] >= 1000
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys()
        for volume in pod.spec.get("volumes", []):
            assert volume.keys() - {"name"} <= _RESTRICTED_VOLUMES, volume
        for _, container in _containers(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["runAsNonRoot"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert not any("hostPort" in port for port in container.get("ports", []))


def test_every_container_says_what_it_needs_and_may_take(resources: tuple[Resource, ...]) -> None:
    for pod in pods(resources):
        for name, container in _containers(pod):
            for part in ("requests", "limits"):
                assert container["resources"][part].keys() >= {"cpu", "memory"}, (pod.owner, name)


def test_every_server_is_probed_in_three_ways(resources: tuple[Resource, ...]) -> None:
    for pod in pods(resources):
        if not pod.runs_on or pod.owner.endswith("/worker"):
            continue  # a Job ends by itself; the health of a group's worker is its leader's
        for name, container in _containers(pod):
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert container[probe]["timeoutSeconds"] <= 10, (pod.owner, name)
            alive = container["livenessProbe"]
            assert alive["periodSeconds"] * alive["failureThreshold"] >= 60, "a slow moment must not end sessions"


def test_every_pod_has_an_account_of_its_own_without_a_token(resources: tuple[Resource, ...]) -> None:
    accounts = {one["metadata"]["name"]: one for one in of_kind(resources, "ServiceAccount")}
    used: dict[str, set[str]] = {}
    for pod in pods(resources):
        name = pod.spec["serviceAccountName"]
        assert accounts[name]["automountServiceAccountToken"] is False
        used.setdefault(name, set()).add(pod.component)
        may_call = any(
            subject["name"] == name for one in of_kind(resources, "RoleBinding") for subject in one["subjects"]
        )
        assert pod.spec["automountServiceAccountToken"] is may_call
        assert may_call is False or pod.component in ("ray-head", "scale-down")
    assert all(len(components) == 1 for components in used.values()), used
    assert used.keys() == accounts.keys()


def test_every_server_is_spread_over_nodes_and_zones(resources: tuple[Resource, ...]) -> None:
    for pod in pods(resources):
        if not pod.runs_on:
            continue
        spread = pod.spec["topologySpreadConstraints"]
        assert [one["topologyKey"] for one in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        assert all(matches(one["labelSelector"], pod.labels) for one in spread)


def test_every_server_has_one_disruption_budget(resources: tuple[Resource, ...]) -> None:
    budgets = of_kind(resources, "PodDisruptionBudget")
    for pod in pods(resources):
        mine = [one for one in budgets if matches(one["spec"]["selector"], pod.labels)]
        assert len(mine) == (1 if pod.runs_on else 0), pod.owner


def test_no_pod_gets_less_time_to_end_than_the_longest_turn(resources: tuple[Resource, ...]) -> None:
    for pod in pods(resources):
        if pod.component in ROOMS or pod.component == "orchestrator":
            assert pod.spec["terminationGracePeriodSeconds"] > LONGEST_TURN_S
            for _, container in _containers(pod):
                waits = container["lifecycle"]["preStop"]
                if "sleep" in waits:
                    assert waits["sleep"]["seconds"] < pod.spec["terminationGracePeriodSeconds"]


def test_selectors_of_services_and_workloads_take_the_pods_that_are_meant(resources: tuple[Resource, ...]) -> None:
    templates = list(pods(resources))
    for one in of_kind(resources, "Service"):
        chosen = {pod.component for pod in templates if one["spec"]["selector"].items() <= pod.labels.items()}
        if one["spec"]["selector"].keys() & {"leaderworkerset.sigs.k8s.io/worker-index"}:
            continue  # that label is the operator's
        assert chosen == {one["metadata"]["labels"]["app.kubernetes.io/component"]}
    for kind in ("Deployment", "StatefulSet"):
        for one in of_kind(resources, kind):
            taken = [pod for pod in templates if matches(one["spec"]["selector"], pod.labels)]
            assert [pod.owner for pod in taken] == [f"{kind}/{one['metadata']['name']}"]


def test_services_name_ports_that_their_pods_have(resources: tuple[Resource, ...]) -> None:
    templates = list(pods(resources))
    for one in of_kind(resources, "Service"):
        component = one["metadata"]["labels"]["app.kubernetes.io/component"]
        of_pods = {
            port["name"]: port["containerPort"]
            for pod in templates
            if pod.component == component
            for _, container in _containers(pod)
            for port in container.get("ports", [])
        }
        for port in one["spec"]["ports"]:
            assert of_pods[port["targetPort"]] == port["port"]


def test_secrets_are_given_by_reference_only(resources: tuple[Resource, ...]) -> None:
    for pod in pods(resources):
        for _, container in _containers(pod):
            for variable in container.get("env", []):
                if variable["name"].endswith(("PASSWORD", "TOKEN", "SECRET")):
                    assert "secretKeyRef" in variable["valueFrom"], (pod.owner, variable["name"])


def test_every_room_serves_grpc_with_models_that_nobody_can_change(resources: tuple[Resource, ...]) -> None:
    for pod in pods(resources):
        if pod.component not in ROOMS or not pod.runs_on or pod.owner.endswith("/worker"):
            continue
        (server,) = (container for name, container in _containers(pod) if name == "triton")
        arguments = server["args"]
        assert f"--model-repository=/opt/stepaudio/model_repository/{pod.component}" in arguments
        assert "--model-control-mode=none" in arguments
        assert "--allow-http=false" in arguments
        closed = next(text for text in arguments if text.startswith("--grpc-restricted-protocol="))
        assert {"shared-memory", "model-repository", "logging", "trace"} <= set(
            closed.split("=")[1].split(":")[0].split(",")
        )
        assert server["readinessProbe"]["grpc"]["port"] == 8001
        shared = next(volume for volume in pod.spec["volumes"] if volume["name"] == "shared-memory")
        assert shared["emptyDir"]["medium"] == "Memory"


def test_the_orchestrator_is_told_the_addresses_of_services_that_exist(resources: tuple[Resource, ...]) -> None:
    services = {one["metadata"]["name"]: one for one in of_kind(resources, "Service")}
    for pod in pods(resources):
        if pod.component != "orchestrator":
            continue
        (container,) = (found for _, found in _containers(pod))
        environment = {one["name"]: one.get("value", "") for one in container["env"]}
        for room in ROOMS:
            host, _, port = environment[f"STEPAUDIO_{room.upper()}_ADDRESS"].partition(":")
            name, namespace, _ = host.split(".")
            assert namespace == "voice"
            assert services[name]["spec"]["clusterIP"] == "None"
            assert int(port) in {one["port"] for one in services[name]["spec"]["ports"]}
        assert environment["STEPAUDIO_LISTEN"].startswith("0.0.0.0:")
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        for variable in ("STEPAUDIO_CREDENTIALS", "STEPAUDIO_TLS_CERTIFICATE", "STEPAUDIO_TLS_CLIENT_AUTHORITIES"):
            if variable in environment:
                assert any(environment[variable].startswith(f"{mount}/") for mount in mounts)


def test_every_mount_has_its_volume(resources: tuple[Resource, ...]) -> None:
    for pod in pods(resources):
        volumes = {volume["name"] for volume in pod.spec.get("volumes", [])} | {"data"}
        for name, container in _containers(pod):
            wanted = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert wanted <= volumes, (pod.owner, name)


def test_ray_keeps_one_replica_a_pod_and_none_on_the_head(chart: Chart) -> None:
    cluster = of_kind(chart.render("default"), "RayService")[0]["spec"]["rayClusterConfig"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert [group["rayStartParams"]["num-cpus"] for group in cluster["workerGroupSpecs"]] == ["1"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["gcsFaultToleranceOptions"]["redisAddress"].startswith("rediss://release-redis.voice.svc:26379")


def test_scarce_gpus_are_freed_before_they_are_asked_for(chart: Chart) -> None:
    for room in ROOMS:
        update = named(chart.render("h800x8"), "Deployment", f"release-{room}")["spec"]["strategy"]["rollingUpdate"]
        assert update == {"maxSurge": 0, "maxUnavailable": 1}
        update = named(chart.render("nano"), "Deployment", f"release-{room}")["spec"]["strategy"]["rollingUpdate"]
        assert update == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_canary_runs_another_image_behind_the_same_name(chart: Chart) -> None:
    resources = chart.render("canary-and-digests")
    stable, canary = (named(resources, "Deployment", f"release-vocoder{end}") for end in ("", "-canary"))
    images = [one["spec"]["template"]["spec"]["containers"][0]["image"] for one in (stable, canary)]
    assert images[0] != images[1]
    service = named(resources, "Service", "release-vocoder")["spec"]["selector"]
    assert all(service.items() <= one["spec"]["template"]["metadata"]["labels"].items() for one in (stable, canary))
    assert all("@sha256:" in container["image"] for pod in pods(resources) for _, container in _containers(pod))


def test_the_environment_of_the_orchestrator_is_what_its_settings_read(chart: Chart) -> None:
    config = pytest.importorskip("services.orchestrator.config")
    known = {f"STEPAUDIO_{name.upper()}" for name in config.OrchestratorSettings.model_fields}
    deployment = named(chart.render("nano"), "Deployment", "release-orchestrator")
    given = {one["name"] for one in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert {name for name in given if name.startswith("STEPAUDIO_")} <= known
    required = {
        f"STEPAUDIO_{name.upper()}"
        for name, field in config.OrchestratorSettings.model_fields.items()
        if field.is_required()
    }
    assert required <= given


def test_the_orchestrators_settings_take_every_value_that_is_rendered(
    resources: tuple[Resource, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = pytest.importorskip("services.orchestrator.config")
    for pod in pods(resources):
        if pod.component not in ("orchestrator", "ray-head"):
            continue
        for one in pod.spec["containers"][0]["env"]:
            monkeypatch.setenv(one["name"], one.get("value", "redis://store:6379"))
        settings = config.OrchestratorSettings()
        assert not settings.api.is_loopback
        assert settings.credentials is not None, "what is open to others lets nobody in without credentials"
        assert settings.drain_grace_s >= LONGEST_TURN_S


def test_the_environment_of_a_room_is_read_by_its_settings(chart: Chart) -> None:
    from services.shared.serving.settings import RoomSettings  # here: it needs the rooms' own packages

    known = {f"STEPAUDIO_{name.upper()}" for name in RoomSettings.model_fields}
    assert known >= ROOM_ENVIRONMENT
    for room in ROOMS:
        deployment = named(chart.render("nano"), "Deployment", f"release-{room}")
        given = {one["name"] for one in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
        assert {name for name in given if name.startswith("STEPAUDIO_")} == ROOM_ENVIRONMENT


@pytest.mark.parametrize("name", [*PRESETS, "engines"])
def test_every_room_is_told_what_its_engine_needs(chart: Chart, name: str) -> None:
    from services.shared.serving.settings import RoomSettings  # here: it needs the rooms' own packages

    known = {f"STEPAUDIO_{field.upper()}" for field in RoomSettings.model_fields}
    rendered = [pod for pod in pods(chart.render(name)) if pod.component in ROOMS]
    assert rendered
    for pod in rendered:
        environment = {one["name"]: one.get("value", "") for one in pod.spec["containers"][0]["env"]}
        assert {variable for variable in environment if variable.startswith("STEPAUDIO_")} <= known
        gpus = pod.spec["containers"][0]["resources"].get("limits", {}).get("nvidia.com/gpu", "1")
        match environment["STEPAUDIO_ENGINE"]:
            case "vllm":
                assert environment["STEPAUDIO_TENSOR_PARALLEL"] == gpus
                assert environment["STEPAUDIO_DTYPE"] == "bfloat16"
            case "torch":
                assert "STEPAUDIO_TENSOR_PARALLEL" not in environment
            case _:
                assert environment["STEPAUDIO_DTYPE"] == "float32"
                mounts = [mount["mountPath"] for mount in pod.spec["containers"][0]["volumeMounts"]]
                assert environment["STEPAUDIO_GRAPH_CACHE"] in mounts


def test_a_build_runs_the_rooms_own_command_for_its_engine(chart: Chart) -> None:
    jobs = [one for one in chart.render("engines") if one["kind"] == "Job" and "engines" in one["metadata"]["name"]]
    commands = [job["spec"]["template"]["spec"]["containers"][0]["command"] for job in jobs]
    assert ["build-engines", "tokenizer"] in commands
    (own,) = (command for command in commands if command[0] == "python3")
    assert own[:3] == ["python3", "-m", "services.vocoder.engine.build"]
    assert {"--cache=/engines", "--precision=bfloat16"} < set(own)
    module = importlib.util.find_spec(own[2])
    assert module is not None, "the command is a module of the rooms"


@pytest.mark.parametrize("name", ["nano", "default", "one-redis-without-tls", "five-redis-by-cert-manager"])
def test_the_stores_url_is_one_that_the_orchestrator_reads(chart: Chart, name: str) -> None:
    from services.orchestrator.adapters.redis.connect import connect  # here: it needs the orchestrator's own packages

    pod = next(pod for pod in pods(chart.render(name)) if pod.component == "orchestrator")
    environment = {one["name"]: one for one in pod.spec["containers"][0]["env"]}
    names = list(environment)
    assert names.index("REDIS_PASSWORD") < names.index("STEPAUDIO_REDIS_URL"), "a variable is made of earlier ones"
    url = environment["STEPAUDIO_REDIS_URL"]["value"].replace("$(REDIS_PASSWORD)", "0123abcd")
    connect(url)  # refuses what is none of its forms; nothing is sent
    servers = named(chart.render(name), "StatefulSet", "release-redis")["spec"]["replicas"]
    assert url.count(".release-redis.voice.svc") == servers
    assert ("sentinel_password=0123abcd" in url) is (servers > 1)
    assert url.startswith("rediss") is (name != "one-redis-without-tls")


def test_serve_is_told_of_an_application_that_is_there(chart: Chart) -> None:
    config = yaml.safe_load(of_kind(chart.render("default"), "RayService")[0]["spec"]["serveConfigV2"])
    (application,) = config["applications"]
    module, _, attribute = application["import_path"].partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    assert f"\ndef {attribute}(" in Path(spec.origin).read_text(encoding="utf-8")
    assert config["proxy_location"] == "Disabled"


def test_every_preset_carries_the_arithmetic_of_its_size() -> None:
    for path in (CHART / "values").glob("*.yaml"):
        head = path.read_text(encoding="utf-8").split("\n\n", 1)[0]
        assert head.startswith(f"# {path.stem}:")
        for word in ("sessions" if path.stem != "multi-node" else "unit", "lm" if path.stem != "nano" else "memory"):
            assert f"# {word}" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("preset", "gpus"),
    [
        ("nano", {}),
        ("a800x4", {"nvidia.com/gpu": 4, "nvidia.com/mig-3g.40gb": 1, "nvidia.com/mig-2g.20gb": 2}),
        ("h800x8", {"nvidia.com/gpu": 8}),
        ("h200x4", {"nvidia.com/gpu": 4, "nvidia.com/mig-3g.71gb": 1, "nvidia.com/mig-2g.35gb": 2}),
        ("multi-node", {}),  # scaled by KEDA: its replicas are not in the manifests
    ],
)
def test_a_preset_asks_for_the_gpus_that_its_arithmetic_counts(
    chart: Chart, preset: str, gpus: Mapping[str, int]
) -> None:
    asked: dict[str, int] = {}
    for one in of_kind(chart.render(preset), "Deployment"):
        for resource, amount in one["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"].items():
            if resource.startswith("nvidia.com/"):
                asked[resource] = asked.get(resource, 0) + int(amount) * one["spec"].get("replicas", 0)
    assert {resource: amount for resource, amount in asked.items() if amount} == gpus


def test_the_ratio_rule_scales_every_room_by_the_same_sessions(chart: Chart) -> None:
    resources = chart.render("multi-node")
    share = {}
    for room in ROOMS:
        triggers = named(resources, "ScaledObject", f"release-{room}")["spec"]["triggers"]
        first = triggers[0]
        assert first["name"] == "sessions"
        assert first["metadata"]["query"] == 'sum(stepaudio_orchestrator_open_sessions{namespace="voice"})'
        share[room] = float(first["metadata"]["threshold"])
    servers = {room: 400 / share[room] for room in ROOMS}
    assert servers == {"tokenizer": 4, "lm": 1, "tts": 10, "vocoder": 20}


def test_a_language_model_grows_before_its_kv_cache_is_full_where_its_engine_tells(chart: Chart) -> None:
    resources = chart.render("multi-node")
    for room, model in (("lm", "step1_chat"), ("tts", "step1_tts")):
        triggers = named(resources, "ScaledObject", f"release-{room}")["spec"]["triggers"]
        (trigger,) = (one for one in triggers if one["name"] == "kv-cache")
        assert trigger["metricType"] == "Value"
        query = f'100 * avg(stepaudio_{model}_kv_cache_used_ratio{{namespace="voice"}})'
        assert (trigger["metadata"]["query"], trigger["metadata"]["threshold"]) == (query, "80")
    for one in of_kind(chart.render("plain-autoscaled"), "ScaledObject"):
        assert "kv-cache" not in {trigger["name"] for trigger in one["spec"]["triggers"]}, "torch tells nothing"


def test_metrics_that_scaling_asks_for_are_in_the_catalogue(chart: Chart) -> None:
    catalogue = CHART.parents[1] / "docs" / "metrics.md"
    if not catalogue.is_file():
        pytest.skip("the catalogue of metrics is not in this checkout")
    text = catalogue.read_text(encoding="utf-8")
    scaled = of_kind(chart.render("multi-node"), "ScaledObject")
    asked = [trigger["metadata"]["query"] for one in scaled for trigger in one["spec"]["triggers"]]
    marking = named(chart.render("plain-autoscaled"), "Deployment", "release-scale-down")
    command = marking["spec"]["template"]["spec"]["containers"][0]["command"]
    asked += [one.removeprefix("--query=") for one in command if one.startswith("--query=")]
    names = {
        word.removesuffix("_bucket")
        for query in asked
        for word in query.replace("(", " ").replace("{", " ").split()
        if word.startswith("stepaudio_")
    }
    assert len(names) == 8
    assert [name for name in names if f"`{name}`" not in text] == []


def _containers(pod: PodTemplate) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for container in [*pod.spec.get("initContainers", []), *pod.spec["containers"]]:
        yield container["name"], container
