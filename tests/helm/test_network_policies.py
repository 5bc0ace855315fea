"""Every arrow of the architecture is open, and no other: the policies are read back into arrows and compared."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.helm.conftest import RELEASE, Chart
from tests.helm.manifests import Resource, matches, of_kind, pods
from tests.helm.sets import ALL

pytestmark = pytest.mark.integration

Arrow = tuple[str, str, frozenset[int]]
"""From, to, ports; no port is every port. Outside the release it is ns:NAME or cidr:ADDRESS."""

ROOMS = ("tokenizer", "lm", "tts", "vocoder")
DNS = ("ns:kube-system", frozenset({53}))


def _arrow(tail: str, head: str, *ports: int) -> Arrow:
    return tail, head, frozenset(ports)


SERVING = {
    *(_arrow("orchestrator", room, 8001) for room in ROOMS),
    *(_arrow("ns:monitoring", room, 8002) for room in ROOMS),
    _arrow("ns:monitoring", "orchestrator", 9464),
}
STORE = {_arrow("orchestrator", "redis", 6379, 26379), _arrow("redis", "redis", 6379, 26379)}
RAY = {
    _arrow("ray-head", "redis", 6379, 26379),
    _arrow("ray-head", "orchestrator"),
    _arrow("orchestrator", "ray-head"),
    _arrow("orchestrator", "orchestrator"),
    _arrow("ns:kuberay-system", "ray-head", 8265),
    _arrow("ray-head", "cidr:0.0.0.0/0", 443, 6443),
    _arrow("ray-head", "cidr:::/0", 443, 6443),
}
SCALE_DOWN = {
    *(_arrow("scale-down", address, 443, 6443) for address in ("cidr:0.0.0.0/0", "cidr:::/0")),
    _arrow("scale-down", "ns:monitoring", 9090),
}
EXPECTED = {
    "default": SERVING | STORE | RAY,
    "nano": SERVING | {_arrow("orchestrator", "redis", 6379)},
    "multi-node": SERVING | STORE | RAY | SCALE_DOWN | {_arrow("lm", "lm")},
    "plain-autoscaled": SERVING
    | STORE
    | SCALE_DOWN
    | {_arrow(tail, "ns:monitoring", 4317) for tail in ("orchestrator", *ROOMS)},
    "autoscaled-to-zero": SERVING
    | STORE
    | {arrow for arrow in RAY if arrow[1] not in ("cidr:0.0.0.0/0", "cidr:::/0")}
    | {_arrow(tail, "cidr:10.0.0.1/32", 443) for tail in ("ray-head", "scale-down")}
    | {_arrow("scale-down", "ns:monitoring", 80)},
    "external-store": SERVING
    | {arrow for arrow in RAY if arrow[1] != "redis"}
    | {_arrow("orchestrator", "cidr:10.9.0.0/24", 6379), _arrow("ray-head", "cidr:10.9.0.0/24", 6379)},
    "gateway": SERVING | STORE | RAY | {_arrow("ns:edge", "orchestrator", 8443)},
    "ingress": SERVING
    | STORE
    | RAY
    | {
        _arrow("ns:ingress-nginx", "orchestrator", 8443),
        _arrow("cidr:203.0.113.0/24", "orchestrator", 8443),
        _arrow("cidr:2001:db8::/32", "orchestrator", 8443),
    },
    "download-from-hub": SERVING | STORE | RAY | {_arrow("checkpoints", "cidr:0.0.0.0/0", 443)},
    "engines": SERVING | STORE | RAY,
    "tools": SERVING | STORE | RAY | {_arrow("orchestrator", "cidr:192.0.2.0/24", 443, 8000)},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_open_arrows_are_those_of_the_architecture_and_no_others(chart: Chart, name: str) -> None:
    assert _open_arrows(chart.render(name)) == EXPECTED[name]


@pytest.mark.parametrize("name", [name for name in ALL if name != "without-policies-and-ray-extras"])
def test_everything_else_is_closed_for_every_pod(chart: Chart, name: str) -> None:
    resources = chart.render(name)
    (closed,) = (
        one["spec"] for one in of_kind(resources, "NetworkPolicy") if one["metadata"]["name"].endswith("-default-deny")
    )
    assert closed["policyTypes"] == ["Ingress", "Egress"]
    assert not closed.keys() & {"ingress", "egress"}
    assert all(matches(closed["podSelector"], pod.labels) for pod in pods(resources))


@pytest.mark.parametrize("name", ALL)
def test_every_policy_opens_something_that_is_there(chart: Chart, name: str) -> None:
    resources = chart.render(name)
    labels = [pod.labels for pod in pods(resources)]
    for one in of_kind(resources, "NetworkPolicy"):
        assert any(matches(one["spec"]["podSelector"], of_pod) for of_pod in labels), one["metadata"]["name"]
        for peer, _ in _peers(one["spec"]):
            assert peer.keys() & {"podSelector", "namespaceSelector", "ipBlock"}, "an empty peer is everybody"
            if peer.keys() == {"podSelector"}:
                assert any(matches(peer["podSelector"], of_pod) for of_pod in labels), one["metadata"]["name"]


def test_without_policies_there_are_none(chart: Chart) -> None:
    assert not of_kind(chart.render("without-policies-and-ray-extras"), "NetworkPolicy")


def test_a_mesh_opens_its_tunnels_beside_each_arrow_and_its_control_plane(chart: Chart) -> None:
    arrows = _open_arrows(chart.render("mesh"))
    assert _arrow("orchestrator", "lm", 8001, 4143) in arrows
    assert _arrow("*", "ns:mesh-system", 8086) in arrows


def test_the_download_reaches_nothing_inside(chart: Chart) -> None:
    (policy,) = (
        one
        for one in of_kind(chart.render("download-from-hub"), "NetworkPolicy")
        if one["metadata"]["name"] == f"{RELEASE}-checkpoints-to-hub-out"
    )
    (peer,) = policy["spec"]["egress"][0]["to"]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(peer["ipBlock"]["except"])


def _open_arrows(resources: tuple[Resource, ...]) -> set[Arrow]:
    """Arrows that both sides allow; one that leads out of the release, or in, needs its own side alone."""
    ways: dict[str, set[Arrow]] = {"Egress": set(), "Ingress": set()}
    for one in of_kind(resources, "NetworkPolicy"):
        spec = one["spec"]
        me = spec["podSelector"]["matchLabels"].get("app.kubernetes.io/component", "*")
        for peer, ports in _peers(spec):
            (way,) = spec["policyTypes"]
            other = _who(peer)
            ways[way].add((me, other, ports) if way == "Egress" else (other, me, ports))
    assert ("*", *DNS) in ways["Egress"] or not ways["Egress"]
    ways["Egress"].discard(("*", *DNS))
    inside = {arrow for arrows in ways.values() for arrow in arrows if ":" not in arrow[0] + arrow[1]}
    for arrow in inside:
        assert arrow in ways["Egress"], f"{arrow} is let in and not out"
        assert arrow in ways["Ingress"], f"{arrow} is let out and not in"
    return ways["Egress"] | ways["Ingress"]


def _peers(spec: dict[str, Any]) -> Iterator[tuple[dict[str, Any], frozenset[int]]]:
    for way, side in (("ingress", "from"), ("egress", "to")):
        for rule in spec.get(way, []):
            ports = frozenset(port["port"] for port in rule.get("ports", []))
            assert rule[side], "a rule without peers is open to everybody"
            for peer in rule[side]:
                yield peer, ports


def _who(peer: dict[str, Any]) -> str:
    if "ipBlock" in peer:
        return f"cidr:{peer['ipBlock']['cidr']}"
    if "namespaceSelector" in peer:
        return f"ns:{peer['namespaceSelector']['matchLabels']['kubernetes.io/metadata.name']}"
    component: str = peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
    return component
