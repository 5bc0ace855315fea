"""From the rendered chart to what `podman kube play` runs, and what the kubelet would ask of it. Changes nothing else.

ConfigMap, Deployment                       as rendered, without probes
StatefulSet                                 the Pods and claims that its controller would make
Secret                                      given by the caller, as the chart renders none
Service                                     its names become aliases of its pods in podman's network
$(NAME) in a variable                       the value of the variable NAME, as podman leaves it as it stands
startup and readiness probes                asked by probes.py, as podman knows no gRPC probe
lifecycle hooks                             no container engine has them: left out, and listed
NetworkPolicy, PodDisruptionBudget, ...     have nobody here who acts on them: left out, and listed
"""

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Resource = dict[str, Any]  # a manifest is whatever Kubernetes takes

_PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")
_REFERENCE: Final = re.compile(r"\$\(([A-Z_]+)\)")
_USED: Final = ("ConfigMap", "Deployment", "StatefulSet", "Service")


@dataclass(frozen=True, slots=True)
class Probe:
    """What the kubelet would ask a container until it may be used.

    Attributes:
        kind: exec, grpc or httpGet.
        container: its name in podman.
        command: of an exec.
        port, path: of the others; an exec has port 0, and only httpGet has a path.
        patience_s: how long the startup probe allows.
    """

    kind: str
    container: str
    command: tuple[str, ...]
    port: int
    path: str
    patience_s: float


@dataclass(frozen=True, slots=True)
class Play:
    """One pod.

    Attributes:
        pod: its name in podman.
        component: what it is.
        aliases: names that other pods know it by.
        documents: for one `kube play`.
        probes: readiness, and what must be asked first.
    """

    pod: str
    component: str
    aliases: tuple[str, ...]
    documents: tuple[Resource, ...]
    probes: tuple[Probe, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All pods, and what of the chart has no effect here: kinds, and fields as kind/name: field."""

    plays: tuple[Play, ...]
    unused_kinds: tuple[str, ...]
    unused_fields: tuple[str, ...]


def plan(resources: Sequence[Resource], *, secrets: Mapping[tuple[str, str], str]) -> Plan:
    """Turn the rendered chart into pods.

    Args:
        resources: all that `helm template` writes. They are not changed.
        secrets: name of a Secret and key to its value.

    Raises:
        ValueError: a workload asks for something that is not bridged here, such as several replicas.
    """
    maps = tuple(one for one in resources if one["kind"] == "ConfigMap")
    services = [one for one in resources if one["kind"] == "Service"]
    plays, fields = [], []
    for one in resources:
        if one["kind"] not in ("Deployment", "StatefulSet"):
            continue
        name = one["metadata"]["name"]
        if one["spec"]["replicas"] != 1:
            raise ValueError(f"{one['kind']}/{name} has {one['spec']['replicas']} replicas, and one is played")
        workload = copy.deepcopy(one)
        pod = f"{name}-pod" if one["kind"] == "Deployment" else f"{name}-0"
        probes, dropped = _take_probes(workload["spec"]["template"]["spec"]["containers"], pod)
        for container in workload["spec"]["template"]["spec"]["containers"]:
            _write_out(container.get("env", ()), secrets)
        fields += [f"{one['kind']}/{name}: {field}" for field in dropped]
        needed = [found for found in maps if found["metadata"]["name"] in _config_maps(workload)]
        made = [workload] if one["kind"] == "Deployment" else _pod_of(workload, pod)
        template = workload["spec"]["template"]
        component = template["metadata"]["labels"]["app.kubernetes.io/component"]
        plays.append(Play(pod, component, _aliases(one, pod, services), (*needed, *made), tuple(probes)))
    unused = sorted({one["kind"] for one in resources} - set(_USED))
    return Plan(tuple(plays), tuple(unused), tuple(fields))


def _take_probes(containers: Iterable[Resource], pod: str) -> tuple[list[Probe], list[str]]:
    """The readiness probes, and the names of what was taken out of the containers."""
    probes, dropped = [], []
    for container in containers:
        startup = container.get("startupProbe", {})
        patience_s = float(startup.get("failureThreshold", 1) * startup.get("periodSeconds", 1))
        if asked := container.get("readinessProbe"):
            probes.append(_probe(asked, container, f"{pod}-{container['name']}", patience_s=patience_s))
        for field in (*_PROBES, "lifecycle"):
            if container.pop(field, None) is not None:
                dropped.append(field)
    return probes, dropped


def _write_out(env: Iterable[Resource], secrets: Mapping[tuple[str, str], str]) -> None:
    """Put the value of an earlier variable in the place of its $(NAME)."""
    known: dict[str, str] = {}
    for one in env:
        if "value" in one:
            one["value"] = _REFERENCE.sub(lambda found: known.get(found[1], found[0]), one["value"])
            known[one["name"]] = one["value"]
        elif reference := one["valueFrom"].get("secretKeyRef"):
            known[one["name"]] = secrets[reference["name"], reference["key"]]


def _probe(asked: Resource, container: Resource, name: str, *, patience_s: float) -> Probe:
    if "exec" in asked:
        return Probe("exec", name, tuple(asked["exec"]["command"]), 0, "", patience_s)
    kind = next((one for one in ("grpc", "httpGet") if one in asked), None)
    if kind is None:
        raise ValueError(f"{name}: a readiness probe is of kind exec, grpc or httpGet here, not {sorted(asked)}")
    port = asked[kind]["port"]
    if isinstance(port, str):
        port = next(one["containerPort"] for one in container["ports"] if one["name"] == port)
    return Probe(kind, name, (), port, asked[kind].get("path", ""), patience_s)


def _config_maps(workload: Resource) -> set[str]:
    """Names of the ConfigMaps that a workload mounts."""
    volumes = workload["spec"]["template"]["spec"].get("volumes", ())
    return {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}


def _pod_of(workload: Resource, pod: str) -> list[Resource]:
    """The claims and the Pod that the controller of a StatefulSet would make."""
    spec = workload["spec"]["template"]["spec"]
    namespace = workload["metadata"]["namespace"]
    claims = []
    for claim in workload["spec"].get("volumeClaimTemplates", ()):
        name = f"{claim['metadata']['name']}-{pod}"
        claims.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": namespace},
                "spec": claim["spec"],
            }
        )
        spec["volumes"].append({"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": name}})
    metadata = {**workload["spec"]["template"]["metadata"], "name": pod, "namespace": namespace}
    return [*claims, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}]


def _aliases(workload: Resource, pod: str, services: Iterable[Resource]) -> tuple[str, ...]:
    """Names in the cluster's DNS of the Services that select the pod, and its own where a Service gives it one."""
    labels: Mapping[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    names = []
    for service in services:
        if not service["spec"]["selector"].items() <= labels.items():
            continue
        host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
        names.append(host)
        if workload["spec"].get("serviceName") == service["metadata"]["name"]:
            names.append(f"{pod}.{host}")
    return tuple(names)
