"""What Prometheus and Grafana are told: rules, alerts and dashboards, made here and committed inside the chart.

objectives.py  the product's objectives, and the burn-rate rules made from them
dashboards.py  four dashboards, of the parts of panels.py and expressions.py; that of the rooms in rooms.py
queries.py     which metrics a query reads, and which metrics there are
targets.py     where a system on this machine answers, for Prometheus without Kubernetes
local/         Prometheus and Grafana as a compose file

`python -m monitoring` writes what is generated; tests hold the committed files to it. The alerts on causes are written
by hand: helm/stepaudio/files/monitoring/rules/causes.yaml.
"""
