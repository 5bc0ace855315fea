"""What the system says about itself: metrics, logs and traces.

catalogue.py  every metric as data       metrics.py  the orchestrator's, in Prometheus's registry
logs.py       JSON lines                 tracing.py  one trace a turn, by OpenTelemetry
document.py   docs/metrics.md from the catalogue

`catalogue` and `logs` need nothing but the standard library: the rooms have them too. `tracing` does without
OpenTelemetry where it is not installed.
"""
