{{/* What everything is called, and the labels that name it. */}}

{{- define "stepaudio.name" -}}
{{- $name := default .Release.Name .Values.nameOverride -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$" $name) -}}
{{- fail (printf "the release's name %q must begin with a letter and have 40 characters at most; set nameOverride" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* Args: root, component. */}}
{{- define "stepaudio.selector" -}}
app.kubernetes.io/name: stepaudio
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Args: root, component. */}}
{{- define "stepaudio.labels" -}}
{{ include "stepaudio.selector" . }}
app.kubernetes.io/part-of: stepaudio
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.extraLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Name, namespace and labels of a resource. Args: root, component, name (after the release's). */}}
{{- define "stepaudio.metadata" -}}
name: {{ include "stepaudio.name" .root }}-{{ .name | default .component }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "stepaudio.labels" . | nindent 2 }}
{{- end -}}

{{/* Labels and annotations of a pod. Args: root, component, own (its further labels), annotations (a map). */}}
{{- define "stepaudio.podMetadata" -}}
labels:
  {{- include "stepaudio.labels" . | nindent 2 }}
  {{- with .own }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- if .root.Values.mesh.enabled }}
  {{- with .root.Values.mesh.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- end }}
{{- $annotations := .annotations | default dict }}
{{- if .root.Values.mesh.enabled }}
{{- $annotations = merge $annotations .root.Values.mesh.podAnnotations }}
{{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* registry/repository:tag@digest. Args: root, image, of (for the message). */}}
{{- define "stepaudio.image" -}}
{{- $image := .image -}}
{{- if and .root.Values.images.requireDigests (not $image.digest) -}}
{{- fail (printf "images.requireDigests is on and the image of %s has no digest" .of) -}}
{{- end -}}
{{- if not (or $image.tag $image.digest) -}}
{{- fail (printf "the image of %s has neither tag nor digest" .of) -}}
{{- end -}}
{{- with .root.Values.images.registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- with $image.tag }}:{{ . }}{{ end }}{{- with $image.digest }}@{{ . }}{{ end }}
{{- end -}}
