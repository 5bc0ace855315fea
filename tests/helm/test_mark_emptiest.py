"""The emptiest server goes first: costs follow the load, nothing is written in vain, and nothing but the cost is."""

import importlib.util
import io
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.helm.conftest import Chart
from tests.helm.manifests import named, of_kind
from tests.helm.sets import CHART

pytestmark = pytest.mark.integration

SCRIPT = CHART / "files" / "mark_emptiest.py"
ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("mark_emptiest", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@dataclass
class FakeCluster:
    """Prometheus and the Kubernetes API on one port of loopback.

    Attributes:
        loads: what Prometheus says, by query and pod.
        gone: pods that the API does not know any more.
        refusal: status of the API's next answers, or 0.
        patched: pod and body of each patch that was taken.
        logins: what each patch showed.
    """

    loads: dict[str, dict[str, float]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    refusal: int = 0
    patched: list[tuple[str, Any]] = field(default_factory=list)
    logins: set[str] = field(default_factory=set)
    address: str = ""

    @property
    def costs(self) -> dict[str, str]:
        """The newest cost of each pod."""
        return {pod: body["metadata"]["annotations"][ANNOTATION] for pod, body in self.patched}

    def query(self, text: str) -> tuple[int, Any]:
        """Answer as Prometheus."""
        if text not in self.loads:
            return 400, {"status": "error"}
        result = [{"metric": {"pod": pod}, "value": [0, str(load)]} for pod, load in self.loads[text].items()]
        return 200, {"status": "success", "data": {"resultType": "vector", "result": result}}

    def patch(self, path: str, headers: Any, body: Any) -> int:  # headers as the server has them
        """Answer as the API."""
        assert headers["Content-Type"] == "application/merge-patch+json"
        self.logins.add(headers["Authorization"])
        prefix, _, pod = path.rpartition("/")
        assert prefix == "/api/v1/namespaces/voice/pods"
        if self.refusal:
            return self.refusal
        if pod in self.gone:
            return 404
        self.patched.append((pod, body))
        return 200


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    fake = FakeCluster()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, told = fake.query(parse_qs(urlsplit(self.path).query)["query"][0])
            self._send(status, told)

        def do_PATCH(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(fake.patch(self.path, self.headers, body), {})

        def _send(self, status: int, told: Any) -> None:  # told: whatever JSON has
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def account(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("first\n")
    return tmp_path


def marker(script: ModuleType, cluster: FakeCluster, account: Path, **queries: str) -> Any:  # the script's own class
    kubernetes = script.Kubernetes(cluster.address, "voice", account)
    return script.Marker(cluster.address, kubernetes, queries, log=io.StringIO())


def test_what_carries_more_costs_more_and_what_carries_nothing_costs_nothing(script: ModuleType) -> None:
    costs = [script.cost_of(load) for load in (0.0, 0.2, 1.0, 7.5, 200.0, 1e30, -1.0)]
    assert costs == [0, 1, 1, 8, 200, 2**31 - 1, 0]


@pytest.mark.parametrize(
    ("written", "cost", "is_worth"),
    [
        (None, 0, True),
        (0, 0, False),
        (0, 1, True),
        (1, 0, True),
        (5, 6, False),
        (5, 7, True),
        (100, 110, False),
        (100, 111, True),
        (100, 80, True),
    ],
)
def test_only_what_has_really_changed_is_written(
    script: ModuleType, written: int | None, cost: int, *, is_worth: bool
) -> None:
    assert script.is_worth_writing(written, cost) is is_worth


def test_every_pod_of_every_pool_gets_the_cost_of_its_load_and_nothing_else(
    script: ModuleType, cluster: FakeCluster, account: Path
) -> None:
    cluster.loads = {"sessions": {"o-1": 12, "o-2": 3}, "replies": {"lm-1": 0, "lm-2": float("nan")}}
    marking = marker(script, cluster, account, orchestrator="sessions", lm="replies")
    assert marking.go_round() is True
    assert cluster.costs == {"o-1": "12", "o-2": "3", "lm-1": "0"}
    assert all(body == {"metadata": {"annotations": {ANNOTATION: cluster.costs[pod]}}} for pod, body in cluster.patched)
    assert cluster.logins == {"Bearer first"}


def test_a_pool_at_rest_is_written_once_and_a_renewed_token_is_used(
    script: ModuleType, cluster: FakeCluster, account: Path
) -> None:
    cluster.loads = {"sessions": {"o-1": 100, "o-2": 40}}
    marking = marker(script, cluster, account, orchestrator="sessions")
    assert all(marking.go_round() for _ in range(3))
    assert len(cluster.patched) == 2
    cluster.loads["sessions"] |= {"o-1": 105, "o-2": 0}
    (account / "token").write_text("second")
    assert marking.go_round()
    assert cluster.patched[2:] == [("o-2", {"metadata": {"annotations": {ANNOTATION: "0"}}})]
    assert cluster.logins == {"Bearer first", "Bearer second"}
    for load in range(106, 120):  # small steps add up: the cost that stands is the one compared with
        cluster.loads["sessions"]["o-1"] = load
        assert marking.go_round()
    assert cluster.costs["o-1"] == "111"


def test_a_pod_that_is_gone_is_no_failure_and_is_forgotten(
    script: ModuleType, cluster: FakeCluster, account: Path
) -> None:
    cluster.loads = {"sessions": {"o-1": 5, "o-2": 6}}
    cluster.gone = {"o-2"}
    marking = marker(script, cluster, account, orchestrator="sessions")
    assert marking.go_round() is True
    assert marking.written == {"o-1": 5}
    cluster.loads = {"sessions": {}}
    assert marking.go_round() is True
    assert marking.written == {}


def test_a_pool_that_cannot_be_asked_keeps_its_costs_and_the_others_go_on(
    script: ModuleType, cluster: FakeCluster, account: Path
) -> None:
    cluster.loads = {"sessions": {"o-1": 5}, "replies": {"lm-1": 9}}
    marking = marker(script, cluster, account, orchestrator="sessions", lm="replies")
    assert marking.go_round()
    cluster.loads = {"replies": {"lm-1": 1}}
    assert marking.go_round() is False
    assert marking.written == {"o-1": 5, "lm-1": 1}
    (line,) = (json.loads(line) for line in marking.log.getvalue().splitlines())
    assert line["pool"] == "orchestrator"


@pytest.mark.parametrize("status", [403, 422, 500])
def test_an_api_that_refuses_is_said_and_asked_again(
    script: ModuleType, cluster: FakeCluster, account: Path, status: int
) -> None:
    cluster.loads = {"sessions": {"o-1": 5}}
    cluster.refusal = status
    marking = marker(script, cluster, account, orchestrator="sessions")
    assert marking.go_round() is False
    assert str(status) in marking.log.getvalue()
    assert "first" not in marking.log.getvalue()
    cluster.refusal = 0
    assert marking.go_round() is True
    assert cluster.costs == {"o-1": "5"}


def test_it_lives_while_it_goes_round(script: ModuleType) -> None:
    now_s = 0.0
    health = script.Health(10.0, clock=lambda: now_s)
    assert (health.answer("/live"), health.answer("/")) == (200, 404)
    now_s = 41.0
    assert health.answer("/live") == 503
    health.went_round()
    assert health.answer("/live") == 200


def test_its_account_may_patch_pods_alone_and_of_them_one_annotation(chart: Chart) -> None:
    resources = chart.render("plain-autoscaled")
    role = named(resources, "Role", "release-scale-down")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}]
    (policy,) = of_kind(resources, "ValidatingAdmissionPolicy")
    (binding,) = of_kind(resources, "ValidatingAdmissionPolicyBinding")
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}
    assert policy["spec"]["failurePolicy"] == "Fail"
    (who,) = policy["spec"]["matchConditions"]
    assert who["expression"].endswith('== "system:serviceaccount:voice:release-scale-down"')
    text = " ".join(one["expression"] for one in policy["spec"]["validations"])
    for kept in ("spec", "metadata.labels", "metadata.ownerReferences", "metadata.finalizers"):
        assert f"object.{kept} == oldObject.{kept}" in text
    assert ANNOTATION in text
    (container,) = named(resources, "Deployment", "release-scale-down")["spec"]["template"]["spec"]["containers"]
    pools = [one.split("=")[1] for one in container["command"] if one.startswith("--query=")]
    assert pools == ["orchestrator", "tokenizer", "lm", "tts"]


def pod(image: str = "a", **metadata: object) -> dict[str, Any]:
    """A pod as the API server has it."""
    return {"metadata": {"name": "p", **metadata}, "spec": {"containers": [{"image": image}]}}


@pytest.mark.parametrize(
    ("before", "after", "is_allowed"),
    [
        (pod(), pod(annotations={ANNOTATION: "3"}), True),
        (pod(annotations={"x": "1"}), pod(annotations={"x": "1", ANNOTATION: "3"}), True),
        (pod(annotations={ANNOTATION: "1"}, labels={"a": "b"}), pod(annotations={}, labels={"a": "b"}), True),
        (pod(), pod("another"), False),
        (pod(), pod(annotations={"x": "1"}), False),
        (pod(annotations={"x": "1"}), pod(annotations={"x": "2"}), False),
        (pod(annotations={"x": "1"}), pod(annotations={ANNOTATION: "2"}), False),
        (pod(), pod(labels={"a": "b"}), False),
        (pod(labels={"a": "b"}), pod(labels={"a": "c"}), False),
        (pod(labels={"a": "b"}), pod(), False),
        (pod(ownerReferences=[{"uid": "1"}]), pod(), False),
        (pod(), pod(finalizers=["f"]), False),
    ],
)
def test_the_guard_lets_the_cost_pass_and_nothing_else(
    chart: Chart, before: dict[str, Any], after: dict[str, Any], *, is_allowed: bool
) -> None:
    celpy = pytest.importorskip("celpy", reason="needs cel-python")
    environment = celpy.Environment()
    (policy,) = of_kind(chart.render("plain-autoscaled"), "ValidatingAdmissionPolicy")
    known = {"object": celpy.json_to_cel(after), "oldObject": celpy.json_to_cel(before)}

    def value(expression: str) -> Any:  # of CEL's own types
        return environment.program(environment.compile(expression)).evaluate(known)

    known["variables"] = celpy.celtypes.MapType(
        {celpy.celtypes.StringType(one["name"]): value(one["expression"]) for one in policy["spec"]["variables"]}
    )
    assert all(value(one["expression"]) for one in policy["spec"]["validations"]) is is_allowed


@pytest.mark.parametrize(
    ("values", "pools"), [("autoscaled-to-zero", {"tokenizer", "lm", "tts"}), ("autoscaled-newest-first", set())]
)
def test_pools_that_something_else_chooses_from_are_left_alone(chart: Chart, values: str, pools: set[str]) -> None:
    resources = chart.render(values)
    marked = {
        one.split("=")[1]
        for deployment in of_kind(resources, "Deployment")
        for container in deployment["spec"]["template"]["spec"]["containers"]
        for one in container.get("command", [])
        if one.startswith("--query=")
    }
    assert marked == pools
    assert not of_kind(resources, "ValidatingAdmissionPolicy"), "neither asks for the guard"
