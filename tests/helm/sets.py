"""The values that the chart is rendered with: every preset, and one set for each way it can be deployed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

CHART: Final = Path(__file__).resolve().parents[2] / "helm" / "stepaudio"
PRESETS: Final = ("nano", "a800x4", "h800x8", "h200x4", "multi-node")

ROOM_ENVIRONMENT: Final = frozenset(
    f"STEPAUDIO_{name}"
    for name in ("CHECKPOINTS", "DEVICE", "ENGINE", "DTYPE", "THREADS", "MAX_BATCH", "LOG_LEVEL", "OTLP_ENDPOINT")
)
"""What every room is told, whatever its engine."""

Values = Mapping[str, Any]  # whatever YAML can say: some sets are wrong on purpose

_DIGEST: Final = "sha256:" + "0123456789abcdef" * 4
_TLS_OFF: Final = {"enabled": False}

OWN: Final[Mapping[str, Values]] = {
    "default": {},
    "plain-autoscaled": {
        "orchestrator": {"mode": "plain"},
        "telemetry": {"otlpEndpoint": "http://collector.monitoring.svc:4317"},
        "autoscaling": {"enabled": True},
        "api": {"tls": _TLS_OFF},
    },
    "autoscaled-to-zero": {
        "autoscaling": {
            "enabled": True,
            "prometheusAddress": "http://prometheus.monitoring.svc",
            "emptiestFirst": {"guard": False},
        },
        "lm": {"autoscaling": {"minReplicas": 0}},
        "network": {"apiServerCidrs": ["10.0.0.1/32"], "apiServerPorts": [443]},
    },
    "autoscaled-newest-first": {"autoscaling": {"enabled": True, "emptiestFirst": {"enabled": False}}},
    "external-store": {
        "redis": {
            "enabled": False,
            "external": {
                "secretName": "store",
                "authoritySecretName": "store-ca",
                "rayAddress": "rediss://store.example.org:6379",
                "cidrs": ["10.9.0.0/24"],
            },
        }
    },
    "tools": {"orchestrator": {"tools": {"secretName": "functions", "cidrs": ["192.0.2.0/24"], "ports": [443, 8000]}}},
    "one-redis-without-tls": {"redis": {"replicas": 1, "tls": _TLS_OFF}},
    "five-redis-by-cert-manager": {"redis": {"replicas": 5, "tls": {"certificate": True, "issuerName": "house"}}},
    "gateway": {
        "api": {
            "certificate": {"enabled": True, "issuerName": "house", "dnsNames": ["voice.example.org"]},
            "grpcRoute": {"enabled": True, "gatewayName": "edge", "hostnames": ["voice.example.org"]},
            "tls": {"clientAuthoritySecretName": "callers-ca"},
        },
        "network": {"callerNamespaces": ["edge"]},
    },
    "ingress": {
        "api": {"ingress": {"enabled": True, "host": "voice.example.org", "tlsSecretName": "voice"}},
        "network": {"callerNamespaces": ["ingress-nginx"], "callerCidrs": ["203.0.113.0/24", "2001:db8::/32"]},
    },
    "download-from-hub": {"checkpoints": {"download": {"enabled": True, "tokenSecretName": "hub"}}},
    "download-by-manifest": {
        "checkpoints": {
            "claim": {"existing": "weights"},
            "download": {"enabled": True, "from": "manifest", "manifestConfigMap": "weights"},
        }
    },
    "checkpoints-from-image-volume": {
        "checkpoints": {"source": "imageVolume", "imageVolume": {"reference": f"registry.example.org/w@{_DIGEST}"}}
    },
    "checkpoints-from-object-store": {
        "checkpoints": {
            "source": "csi",
            "csi": {"driver": "s3.csi.example.org", "attributes": {"bucket": "weights"}, "secretName": "bucket"},
        }
    },
    "engines": {
        "tokenizer": {"engine": "onnxruntime"},
        "vocoder": {"engine": "tensorrt"},
        "engines": {
            "enabled": True,
            "precision": "bfloat16",
            "builds": [
                {"name": "vocoder-h800", "room": "vocoder"},
                {
                    "name": "tokenizer-l20",
                    "room": "tokenizer",
                    "command": ["build-engines", "tokenizer"],
                    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L20"},
                },
            ],
        },
    },
    "mesh": {
        "mesh": {
            "enabled": True,
            "podLabels": {"mesh.example.org/join": "true"},
            "podAnnotations": {"mesh.example.org/inject": "enabled"},
            "controlPlaneNamespace": "mesh-system",
            "controlPlanePorts": [8086],
            "tunnelPorts": [4143],
        }
    },
    "canary-and-digests": {
        "images": {
            "requireDigests": True,
            "registry": "registry.example.org/voice",
            "pullSecrets": ["registry"],
            **{
                name: {"repository": f"stepaudio/{name}", "digest": _DIGEST}
                for name in ("orchestrator", "tokenizer", "lm", "tts", "vocoder", "redis")
            },
        },
        "vocoder": {"canary": {"replicas": 1, "digest": _DIGEST.replace("0", "f")}},
    },
    "without-policies-and-ray-extras": {
        "network": {"enabled": False},
        "orchestrator": {"ray": {"autoscaling": False, "tokenAuth": False, "gcsFaultTolerance": False}},
    },
    "monitored": {
        "monitoring": {"enabled": True, "labels": {"release": "kube-prometheus-stack"}, "intervalSeconds": 30},
    },
    "placed": {
        "nameOverride": "voice",
        "extraLabels": {"cost-centre": "speech"},
        "roomDefaults": {
            "runtimeClassName": "nvidia",
            "priorityClassName": "voice",
            "nodeSelector": {"pool": "gpu"},
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]
                    }
                }
            },
            "extraEnv": {"NCCL_DEBUG": "WARN"},
            "extraArgs": ["--log-verbose=0"],
        },
        "orchestrator": {"tolerations": [{"key": "voice", "operator": "Exists"}]},
        "redis": {"storage": {"className": "fast"}},
    },
}

ALL: Final = (*PRESETS, *OWN)
