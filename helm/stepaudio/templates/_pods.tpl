{{/* Parts of pods that are the same everywhere. */}}

{{/* Pod Security "restricted", for a pod. Args: root. */}}
{{- define "stepaudio.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int64 .Values.runAsUser }}
runAsGroup: {{ int64 .Values.runAsUser }}
fsGroup: {{ int64 .Values.runAsUser }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* And for a container. */}}
{{- define "stepaudio.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* What every pod begins with. Args: root, component, token (whether it may call the Kubernetes API). */}}
{{- define "stepaudio.podStart" -}}
serviceAccountName: {{ include "stepaudio.name" .root }}-{{ .component }}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
securityContext:
  {{- include "stepaudio.podSecurity" .root | nindent 2 }}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Where pods may lie. Args: root, component, place (nodeSelector, tolerations, affinity, priorityClassName,
     runtimeClassName). Spread over nodes and zones as well as it goes: a full zone must not keep a pool from growing. */}}
{{- define "stepaudio.placement" -}}
{{- with .place.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .place.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .place.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .place.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .place.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
topologySpreadConstraints:
  {{- $selector := include "stepaudio.selector" . }}
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
  {{- end }}
{{- end -}}

{{/* The volume with the checkpoints; nothing where they are in the image. */}}
{{- define "stepaudio.checkpointVolume" -}}
{{- $from := .Values.checkpoints -}}
{{- if eq $from.source "claim" }}
- name: checkpoints
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-checkpoints" (include "stepaudio.name" .)) $from.claim.existing }}
    readOnly: true
{{- else if eq $from.source "imageVolume" }}
- name: checkpoints
  image:
    reference: {{ required "checkpoints.source is imageVolume: checkpoints.imageVolume.reference must name the artifact" $from.imageVolume.reference }}
    pullPolicy: IfNotPresent
{{- else if eq $from.source "csi" }}
- name: checkpoints
  csi:
    driver: {{ required "checkpoints.source is csi: checkpoints.csi.driver must name the driver" $from.csi.driver }}
    readOnly: true
    {{- with $from.csi.attributes }}
    volumeAttributes:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $from.csi.secretName }}
    nodePublishSecretRef:
      name: {{ . }}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "stepaudio.checkpointMount" -}}
{{- if ne .Values.checkpoints.source "image" }}
- name: checkpoints
  mountPath: {{ .Values.checkpoints.path }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* Where the checkpoints are inside a container. */}}
{{- define "stepaudio.checkpointPath" -}}
{{- if eq .Values.checkpoints.source "image" -}}
/opt/stepaudio/model_repository/checkpoints/nano
{{- else -}}
{{ .Values.checkpoints.path }}
{{- end -}}
{{- end -}}

{{/* Additional environment. Args: env (a map), of (for the message), taken (names that are set already). */}}
{{- define "stepaudio.extraEnv" -}}
{{- range $name, $value := .env }}
{{- if has $name $.taken }}
{{- fail (printf "%s.extraEnv sets %s, which a value of the chart sets" $.of $name) }}
{{- end }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}
