"""Values that are wrong are refused before anything reaches the cluster, and the message says which and why."""

import json
from typing import Any

import pytest

from tests.helm.conftest import Chart
from tests.helm.sets import CHART

# What is wrong, and words that the message must hold: the place, and what would be right.
WRONG: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("unknown-section", {"orchestra": {}}, ("orchestra", "additional properties")),
    ("unknown-value", {"orchestrator": {"replicas": 2}}, ("/orchestrator", "replicas")),
    ("unknown-in-room", {"lm": {"tensorParallel": 4}}, ("/lm", "tensorParallel")),
    ("unknown-in-gpu", {"tts": {"gpu": {"number": 1}}}, ("/tts/gpu", "number")),
    ("unknown-mode", {"orchestrator": {"mode": "ray"}}, ("/orchestrator/mode", "kuberay", "plain")),
    ("text-for-number", {"orchestrator": {"minReplicas": "two"}}, ("/orchestrator/minReplicas", "integer")),
    ("number-for-text", {"images": {"registry": 5}}, ("/images/registry", "string")),
    ("negative", {"lm": {"replicas": -1}}, ("/lm/replicas", "minimum")),
    ("half-a-gpu", {"tts": {"gpu": {"count": 0.5}}}, ("/tts/gpu/count", "integer")),
    ("too-many-gpus", {"lm": {"gpu": {"count": 64}}}, ("/lm/gpu/count", "maximum")),
    ("no-resource-name", {"lm": {"gpu": {"resource": "gpu"}}}, ("/lm/gpu/resource", "pattern")),
    ("privileged-port", {"api": {"port": 443}}, ("/api/port", "minimum")),
    ("port-beyond", {"orchestrator": {"metricsPort": 70000}}, ("/orchestrator/metricsPort", "maximum")),
    ("no-digest", {"images": {"lm": {"repository": "x", "digest": "latest"}}}, ("/images/lm/digest", "pattern")),
    ("no-quantity", {"lm": {"sharedMemory": "16 GB"}}, ("/lm/sharedMemory", "pattern")),
    ("no-limits", {"redis": {"resources": {"limits": {"gpu": "1"}}}}, ("/redis/resources/limits", "gpu")),
    ("bool-as-text", {"redis": {"tls": {"enabled": "yes"}}}, ("/redis/tls/enabled", "boolean")),
    ("two-redis", {"redis": {"replicas": 2}}, ("/redis/replicas", "1, 3, 5")),
    ("no-fsync", {"redis": {"appendFsync": "no"}}, ("/redis/appendFsync", "everysec")),
    ("redis-memory", {"redis": {"maxMemory": "2Gi"}}, ("/redis/maxMemory", "pattern")),
    ("no-secret-name", {"redis": {"secretName": ""}}, ("/redis/secretName", "pattern")),
    ("secret-itself", {"redis": {"password": "x"}}, ("/redis", "password")),
    ("no-cidr", {"network": {"callerCidrs": ["everyone"]}}, ("/network/callerCidrs/0", "pattern")),
    ("list-for-map", {"lm": {"nodeSelector": ["gpu"]}}, ("/lm/nodeSelector", "object")),
    ("number-in-map", {"lm": {"extraEnv": {"X": 1}}}, ("/lm/extraEnv/X", "string")),
    ("toleration", {"lm": {"tolerations": [{"key": "x", "operator": "In"}]}}, ("operator", "Exists", "Equal")),
    ("affinity", {"lm": {"affinity": {"nodes": {}}}}, ("/lm/affinity", "nodes")),
    ("root", {"runAsUser": 0}, ("/runAsUser", "minimum")),
    ("source", {"checkpoints": {"source": "s3"}}, ("/checkpoints/source", "claim")),
    ("relative", {"checkpoints": {"path": "weights"}}, ("/checkpoints/path", "pattern")),
    ("repository", {"checkpoints": {"download": {"repositories": [{"name": "x"}]}}}, ("repositories/0", "revision")),
    ("plain-http", {"checkpoints": {"download": {"endpoint": "http://hub"}}}, ("download/endpoint", "pattern")),
    ("image-volume", {"checkpoints": {"imageVolume": {"reference": "w:latest"}}}, ("imageVolume/reference", "pattern")),
    ("engine-room", {"engines": {"builds": [{"name": "x", "room": "lm", "command": ["x"]}]}}, ("builds/0/room",)),
    ("engine-command", {"engines": {"builds": [{"name": "x", "room": "vocoder", "command": []}]}}, ("0/command",)),
    ("ratio", {"tts": {"autoscaling": {"ratio": 0}}}, ("/tts/autoscaling/ratio", "minimum")),
    ("url", {"autoscaling": {"prometheusAddress": "prometheus"}}, ("/autoscaling/prometheusAddress", "pattern")),
    ("name", {"nameOverride": "Voice_1"}, ("/nameOverride", "pattern")),
    ("log-level", {"telemetry": {"logLevel": "info"}}, ("/telemetry/logLevel", "INFO")),
    ("lead", {"orchestrator": {"maxPlayoutLeadMs": 3.5}}, ("/orchestrator/maxPlayoutLeadMs", "integer")),
    # Each is right by itself, and they do not fit each other.
    ("bounds", {"orchestrator": {"minReplicas": 20}}, ("minReplicas 20 is above maxReplicas 10",)),
    ("target", {"orchestrator": {"targetSessions": 300}}, ("targetSessions 300 is above maxSessions 200",)),
    ("drain", {"orchestrator": {"drainSeconds": 10}}, ("drainSeconds 10 is below longestTurnSeconds 120",)),
    ("same-port", {"orchestrator": {"metricsPort": 8443}}, ("api.port and orchestrator.metricsPort are both 8443",)),
    ("room-ports", {"tts": {"port": 8002}}, ("tts: port and metricsPort are both 8002",)),
    ("room-bounds", {"lm": {"autoscaling": {"minReplicas": 9}}}, ("lm.autoscaling: minReplicas 9 is above",)),
    ("stuck", {"lm": {"maxUnavailable": 0}}, ("lm: maxSurge and maxUnavailable are both 0",)),
    ("control", {"lm": {"extraArgs": ["--model-control-mode=explicit"]}}, ("is the chart's",)),
    ("http", {"lm": {"extraArgs": ["--allow-http=true"]}}, ("is the chart's",)),
    ("canary", {"lm": {"canary": {"replicas": 1}}}, ("lm.canary", "which image is tried")),
    ("group", {"lmGroup": {"nodes": 2}}, ("lmGroup.workerCommand must say",)),
    ("tag", {"images": {"requireDigests": True}}, ("requireDigests is on", "has no digest")),
    ("no-image", {"images": {"lm": {"repository": "x", "tag": ""}}}, ("neither tag nor digest",)),
    ("env-twice", {"lm": {"extraEnv": {"STEPAUDIO_DEVICE": "cpu"}}}, ("lm.extraEnv sets STEPAUDIO_DEVICE",)),
    (
        "orchestrator-env-twice",
        {"orchestrator": {"extraEnv": {"STEPAUDIO_REDIS_URL": "redis://x"}}},
        ("orchestrator.extraEnv sets STEPAUDIO_REDIS_URL",),
    ),
    ("no-store", {"redis": {"enabled": False}, "orchestrator": {"mode": "plain"}}, ("redis.external.secretName",)),
    ("no-gcs", {"redis": {"enabled": False, "external": {"secretName": "x"}}}, ("rayAddress",)),
    ("writes", {"redis": {"minReplicasToWrite": 3}}, ("minReplicasToWrite 3 must be below redis.replicas 3",)),
    ("issuer", {"api": {"certificate": {"enabled": True}}}, ("issuerName must name the issuer",)),
    ("redis-issuer", {"redis": {"tls": {"certificate": True}}}, ("issuerName must name the issuer",)),
    ("gateway", {"api": {"grpcRoute": {"enabled": True}}}, ("gatewayName must name the Gateway",)),
    ("host", {"api": {"ingress": {"enabled": True}}}, ("api.ingress.host must name the host",)),
    ("mtls", {"api": {"tls": {"enabled": False, "clientAuthoritySecretName": "x"}}}, ("needs api.tls.enabled",)),
    ("reference", {"checkpoints": {"source": "imageVolume"}}, ("reference must name the artifact",)),
    ("driver", {"checkpoints": {"source": "csi"}}, ("driver must name the driver",)),
    (
        "download-into-image",
        {"checkpoints": {"source": "image", "download": {"enabled": True}}},
        ("fills a claim, and checkpoints.source is image",),
    ),
    (
        "manifest",
        {"checkpoints": {"download": {"enabled": True, "from": "manifest"}}},
        ("manifestConfigMap must name the ConfigMap",),
    ),
    (
        "builder-without-gpu",
        {
            "vocoder": {"gpu": {"count": 0}},
            "engines": {"enabled": True, "builds": [{"name": "x", "room": "vocoder", "command": ["x"]}]},
        },
        ("the room vocoder, which has no GPU",),
    ),
    ("engine-of-lm", {"lm": {"engine": "tensorrt"}}, ("lm.engine is tensorrt", "does not compute")),
    ("engine-of-vocoder", {"vocoder": {"engine": "vllm"}}, ("vocoder.engine is vllm", "does not compute")),
    ("engine-without-cache", {"vocoder": {"engine": "tensorrt"}}, ("engines.enabled is off",)),
    ("engine-without-gpu", {"tts": {"engine": "vllm", "gpu": {"count": 0}}}, ("tts.engine is vllm", "gpu.count is 0")),
    (
        "build-without-command",
        {"engines": {"enabled": True, "builds": [{"name": "x", "room": "vocoder"}]}},
        ("vocoder.engine is torch, which needs no build",),
    ),
    (
        "queue-of-lm",
        {"autoscaling": {"enabled": True}, "lm": {"autoscaling": {"queueMs": 10}}},
        ("lm.autoscaling.queueMs", "use openRequests"),
    ),
    (
        "open-requests",
        {"autoscaling": {"enabled": True}, "vocoder": {"autoscaling": {"openRequests": 10}}},
        ("vocoder.autoscaling.openRequests",),
    ),
    (
        "kv-cache-of-vocoder",
        {"autoscaling": {"enabled": True}, "vocoder": {"autoscaling": {"kvCachePercent": 80}}},
        ("vocoder.autoscaling.kvCachePercent", "only lm and tts"),
    ),
    ("kv-cache-above-all", {"lm": {"autoscaling": {"kvCachePercent": 101}}}, ("kvCachePercent", "maximum")),
    ("restless", {"autoscaling": {"emptiestFirst": {"periodSeconds": 1}}}, ("emptiestFirst/periodSeconds", "minimum")),
    ("emptiest", {"autoscaling": {"emptiestFirst": {"guarded": True}}}, ("emptiestFirst", "guarded")),
    (
        "emptiest-without-prometheus",
        {"autoscaling": {"enabled": True}, "network": {"monitoringNamespace": ""}},
        ("emptiestFirst asks Prometheus", "network.monitoringNamespace"),
    ),
]


@pytest.mark.integration
@pytest.mark.parametrize(("name", "values", "words"), WRONG, ids=[name for name, _, _ in WRONG])
def test_a_wrong_value_is_refused_with_a_message_that_names_it(
    chart: Chart, name: str, values: dict[str, Any], words: tuple[str, ...]
) -> None:
    done = chart.template(*chart.file_of(f"wrong-{name}", values))
    assert done.returncode != 0, "it was taken"
    assert not done.stdout
    for word in words:
        assert word in done.stderr or word in done.stderr.replace("'", ""), done.stderr


@pytest.mark.unit
def test_no_section_of_the_schema_takes_a_value_that_it_does_not_know() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    open_sections = [path for path in _open(schema, "") if not path.endswith(("Affinity", "global"))]
    assert open_sections == []


def _open(schema: dict[str, Any], path: str) -> list[str]:
    found = []
    if schema.get("type") == "object" and schema.get("additionalProperties", True) is True:
        found.append(path)
    for name, part in schema.get("properties", {}).items():
        found += _open(part, f"{path}/{name}")
    if isinstance(schema.get("items"), dict):
        found += _open(schema["items"], f"{path}[]")
    return found
