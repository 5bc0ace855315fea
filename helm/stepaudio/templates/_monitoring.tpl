{{/* What Prometheus's operator and Grafana's sidecar find by labels. The texts are files: rules hold templates of their own. */}}

{{- define "stepaudio.monitoring.metadata" -}}
{{- $metadata := include "stepaudio.metadata" . | fromYaml -}}
{{- $_ := set $metadata "labels" (merge (dict) .more $metadata.labels) -}}
{{- toYaml $metadata -}}
{{- end -}}

{{/* One for each component: Services are headless and have the port "metrics". Args: root, component. */}}
{{- define "stepaudio.serviceMonitor" -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  {{- include "stepaudio.monitoring.metadata" (dict "root" .root "component" .component "more" .root.Values.monitoring.labels) | nindent 2 }}
spec:
  namespaceSelector:
    matchNames: [{{ .root.Release.Namespace }}]
  selector:
    matchLabels:
      {{- include "stepaudio.selector" . | nindent 6 }}
  endpoints:
    - port: metrics # of the headless Service alone, so that every pod is asked, and once
      path: /metrics
      interval: {{ .root.Values.monitoring.intervalSeconds }}s
      scrapeTimeout: {{ min 10 (int .root.Values.monitoring.intervalSeconds) }}s
      relabelings: # the labels that rules and dashboards ask for
        - targetLabel: job
          replacement: stepaudio
        - targetLabel: component
          replacement: {{ .component }}
{{- end -}}

{{/* Args: root, file (of files/monitoring/rules). */}}
{{- define "stepaudio.prometheusRule" -}}
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  {{- include "stepaudio.monitoring.metadata" (dict "root" .root "component" "monitoring" "name" .file "more" .root.Values.monitoring.labels) | nindent 2 }}
spec:
  {{- required (printf "files/monitoring/rules/%s.yaml is not in the chart" .file) (.root.Files.Get (printf "files/monitoring/rules/%s.yaml" .file)) | nindent 2 }}
{{- end -}}

{{/* Args: root, file (of files/monitoring/dashboards). */}}
{{- define "stepaudio.dashboard" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "stepaudio.monitoring.metadata" (dict "root" .root "component" "monitoring" "name" (printf "dashboard-%s" .file) "more" .root.Values.monitoring.dashboardLabels) | nindent 2 }}
data:
  stepaudio-{{ .file }}.json: |-
    {{- required (printf "files/monitoring/dashboards/%s.json is not in the chart" .file) (.root.Files.Get (printf "files/monitoring/dashboards/%s.json" .file)) | nindent 4 }}
{{- end -}}
