"""Has Kubernetes take away the emptiest server of each pool first: writes every pod's load into its deletion cost.

    Prometheus ── load by pod ──> cost ──> the pod's annotation controller.kubernetes.io/pod-deletion-cost
                                           a Deployment that shrinks ends the pod with the least first

    python mark_emptiest.py --prometheus URL --namespace NAME --query POOL=PROMQL … [--period S] [--port N]

A query gives one value for each pod, by the label `pod`. Only what has really changed is written, so that a pool at
rest costs the API server nothing. It decides nothing about how many servers there are, and a failure loses nothing: old
costs stand, and a pod without one has 0.

It uses the standard library alone and may do one thing: patch pods. `/live` says that it goes round, whether or not the
others answer: a release must not wait for Prometheus. Source of the annotation: Kubernetes, "ReplicaSet", pod deletion
cost.
"""

import argparse
import json
import math
import ssl
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TextIO

ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
ANSWER_S = 10.0
LARGEST_COST = 2**31 - 1
WORTH = 0.1
"""Part of a cost that has to change before it is written again."""
PATIENCE_ROUNDS = 4
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class MarkingError(Exception):
    """A server gives no answer, or one that is none."""


@dataclass
class Kubernetes:
    """Its API, as the pod's account may use it.

    Attributes:
        url: of the API.
        namespace: of the pods.
        account: folder with the token, which Kubernetes renews, and the authority.
    """

    url: str
    namespace: str
    account: Path = ACCOUNT

    def mark(self, pod: str, cost: int) -> bool:
        """Write a pod's cost; False where the pod is gone.

        Raises:
            MarkingError: the API does not take it.
        """
        place = f"/api/v1/namespaces/{urllib.parse.quote(self.namespace)}/pods/{urllib.parse.quote(pod)}"
        body = json.dumps({"metadata": {"annotations": {ANNOTATION: str(cost)}}}).encode()
        request = urllib.request.Request(self.url + place, data=body, method="PATCH")
        request.add_header("Content-Type", "application/merge-patch+json")
        request.add_header("Authorization", f"Bearer {(self.account / 'token').read_text(encoding='utf-8').strip()}")
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S, context=self._tls()):
                return True
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return False
            raise MarkingError(f"pod {pod}: {error.code} {error.read(500).decode(errors='replace')}") from error
        except OSError as error:
            raise MarkingError(f"pod {pod}: {error}") from error

    def _tls(self) -> ssl.SSLContext | None:
        if not self.url.startswith("https:"):
            return None
        return ssl.create_default_context(cafile=str(self.account / "ca.crt"))


def ask_loads(prometheus: str, query: str) -> dict[str, float]:
    """The load of each pod, by name.

    Raises:
        MarkingError: Prometheus gives no answer, or one without pods.
    """
    address = f"{prometheus.rstrip('/')}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(address, timeout=ANSWER_S) as page:
            told = json.load(page)
        found = {one["metric"]["pod"]: float(one["value"][1]) for one in told["data"]["result"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MarkingError(f"no loads for {query}: {error!r}") from error
    return {pod: load for pod, load in found.items() if math.isfinite(load)}


def cost_of(load: float) -> int:
    """A load as Kubernetes takes a cost: a whole number; what carries anything costs more than what carries nothing."""
    return min(max(math.ceil(load), 0), LARGEST_COST)


def is_worth_writing(written: int | None, cost: int) -> bool:
    """Whether a cost differs enough from the one that was written; from and to nothing always counts."""
    if written is None or (cost == 0) != (written == 0):
        return True
    return abs(cost - written) > max(1.0, WORTH * written)


@dataclass
class Marker:
    """Goes round the pools.

    Attributes:
        prometheus: its address.
        kubernetes: takes the costs.
        queries: by pool.
        log: takes one line of JSON for each thing that went wrong.
        written: the costs that stand, by pod.
    """

    prometheus: str
    kubernetes: Kubernetes
    queries: Mapping[str, str]
    log: TextIO = sys.stderr
    written: dict[str, int] = field(default_factory=dict)

    def go_round(self) -> bool:
        """Look at every pool once; a pool that cannot be asked keeps what it has. Returns whether all went well."""
        seen, is_well = dict[str, int](), True
        for pool, query in self.queries.items():
            try:
                loads = ask_loads(self.prometheus, query)
                for pod, load in sorted(loads.items()):
                    self._mark(pod, cost_of(load), seen)
            except MarkingError as error:
                is_well = False
                line = {"event": "pods were not marked", "pool": pool, "reason": str(error)}
                self.log.write(json.dumps(line) + "\n")
                self.log.flush()
        if is_well:
            self.written = seen  # pods that are gone are forgotten
        else:
            self.written |= seen
        return is_well

    def _mark(self, pod: str, cost: int, seen: dict[str, int]) -> None:
        written = self.written.get(pod)
        if not is_worth_writing(written, cost):
            seen[pod] = self.written[pod]
        elif self.kubernetes.mark(pod, cost):
            seen[pod] = cost


class Health:
    """What the probes are told. Args: period_s: between rounds. clock: monotonic seconds."""

    def __init__(self, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = PATIENCE_ROUNDS * period_s
        self._clock = clock
        self._round_s = clock()

    def went_round(self) -> None:
        """A round is over."""
        self._round_s = self._clock()

    def answer(self, path: str) -> int:
        """The status for a path."""
        if path != "/live":
            return 404
        return 200 if self._clock() - self._round_s <= self._limit_s else 503


def serve_health(health: Health, port: int) -> ThreadingHTTPServer:
    """Answer the probes from a thread of their own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(health.answer(self.path))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Probes are not worth a line."""

    server = ThreadingHTTPServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    """Go round until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prometheus", required=True, help="address of Prometheus")
    parser.add_argument("--kubernetes", default="https://kubernetes.default.svc", help="address of its API")
    parser.add_argument("--namespace", required=True, help="of the pods")
    parser.add_argument("--account", type=Path, default=ACCOUNT, help="folder with token and ca.crt")
    parser.add_argument("--query", action="append", required=True, help="POOL=PROMQL, once for each pool")
    parser.add_argument("--period", type=float, default=30.0, help="seconds between two rounds")
    parser.add_argument("--port", type=int, default=8080, help="where the probes ask")
    chosen = parser.parse_args()
    queries = dict(one.split("=", 1) for one in chosen.query)
    marker = Marker(chosen.prometheus, Kubernetes(chosen.kubernetes, chosen.namespace, chosen.account), queries)
    health = Health(chosen.period + ANSWER_S)
    serve_health(health, chosen.port)
    while True:
        marker.go_round()
        health.went_round()
        time.sleep(chosen.period)


if __name__ == "__main__":
    main()
