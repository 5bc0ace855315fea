{{/* Arrows. An arrow inside the chart is two policies: out of its tail and into its head; the tests know all of them. */}}

{{/* Ports of an arrow, with the mesh's tunnels. Args: root, ports. */}}
{{- define "stepaudio.arrowPorts" -}}
{{- $ports := .ports }}
{{- if .root.Values.mesh.enabled }}{{ $ports = concat $ports .root.Values.mesh.tunnelPorts }}{{ end }}
{{- range $ports }}
- protocol: TCP
  port: {{ int . }}
{{- end }}
{{- end -}}

{{/* Begin of a policy. Args: root, component, name. */}}
{{- define "stepaudio.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "stepaudio.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "stepaudio.selector" . | nindent 6 }}
{{- end -}}

{{/* One side of an arrow between components. Args: root, from, to, ports (a list; empty is all), way (Egress, Ingress). */}}
{{- define "stepaudio.arrow" -}}
{{- $out := eq .way "Egress" -}}
{{- include "stepaudio.policy" (dict "root" .root "component" (ternary .from .to $out) "name" (printf "%s-to-%s-%s" .from .to (ternary "out" "in" $out))) }}
  policyTypes: [{{ .way }}]
  {{ lower .way }}:
    - {{ ternary "to" "from" $out }}:
        - podSelector:
            matchLabels:
              {{- include "stepaudio.selector" (dict "root" .root "component" (ternary .to .from $out)) | nindent 14 }}
      {{- with .ports }}
      ports:
        {{- include "stepaudio.arrowPorts" (dict "root" $.root "ports" .) | nindent 8 }}
      {{- end }}
{{- end -}}

{{/* An arrow from pods of another namespace. Args: root, of (who, for the name), namespaces, component, ports. */}}
{{- define "stepaudio.arrowFromNamespaces" -}}
{{- include "stepaudio.policy" (dict "root" .root "component" .component "name" (printf "%s-to-%s-in" .of .component)) }}
  policyTypes: [Ingress]
  ingress:
    - from:
        {{- range .namespaces }}
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ . }}
        {{- end }}
      ports:
        {{- include "stepaudio.arrowPorts" (dict "root" .root "ports" .ports) | nindent 8 }}
{{- end -}}

{{/* An arrow to addresses. Args: root, component, to (what, for the name), cidrs, except (of an open one), ports. */}}
{{- define "stepaudio.arrowToAddresses" -}}
{{- include "stepaudio.policy" (dict "root" .root "component" .component "name" (printf "%s-to-%s-out" .component .to)) }}
  policyTypes: [Egress]
  egress:
    - to:
        {{- range .cidrs }}
        - ipBlock:
            cidr: {{ . }}
            {{- if and (eq . "0.0.0.0/0") $.except }}
            except: # nothing inside: neither pods, nor nodes, nor a cloud's metadata
              {{- range $.except }}
              - {{ . }}
              {{- end }}
            {{- end }}
        {{- end }}
      ports:
        {{- include "stepaudio.arrowPorts" (dict "root" .root "ports" .ports) | nindent 8 }}
{{- end -}}

{{/* The arrow from a component to the collector of traces. Args: root, component. */}}
{{- define "stepaudio.arrowToCollector" -}}
{{- include "stepaudio.policy" (dict "root" .root "component" .component "name" (printf "%s-to-collector-out" .component)) }}
  policyTypes: [Egress]
  egress:
    - to:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: {{ required "telemetry.otlpEndpoint is set: network.collectorNamespace must name the collector's namespace" .root.Values.network.collectorNamespace }}
      ports:
        {{- include "stepaudio.arrowPorts" (dict "root" .root "ports" (list .root.Values.network.collectorPort)) | nindent 8 }}
{{- end -}}
