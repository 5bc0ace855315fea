{{/* KEDA. The ratio rule first: every room follows the number of sessions by its own ratio, so that none falls behind. */}}

{{/* One Prometheus trigger. Args: root, name, query, threshold, value (bool: of the pool; else of each server). */}}
{{- define "stepaudio.trigger" -}}
- type: prometheus
  name: {{ .name }}
  metricType: {{ ternary "Value" "AverageValue" (.value | default false) }}
  metadata:
    serverAddress: {{ .root.Values.autoscaling.prometheusAddress }}
    query: {{ .query | quote }}
    threshold: {{ .threshold | quote }}
    ignoreNullValues: "true"
{{- end -}}

{{/* Everything of a ScaledObject but its target and triggers. Args: root, min, max. */}}
{{- define "stepaudio.scaling" -}}
{{- $scaling := .root.Values.autoscaling -}}
pollingInterval: {{ $scaling.pollingSeconds }}
cooldownPeriod: {{ $scaling.cooldownSeconds }}
minReplicaCount: {{ .min }}
maxReplicaCount: {{ .max }}
fallback: # Prometheus is away: stay as you are
  failureThreshold: 4
  behavior: currentReplicas
  replicas: {{ max 1 (int .min) }}
advanced:
  horizontalPodAutoscalerConfig:
    behavior:
      scaleUp:
        stabilizationWindowSeconds: 0
        policies:
          - {type: Pods, value: 4, periodSeconds: 60}
          - {type: Percent, value: 100, periodSeconds: 60}
        selectPolicy: Max
      scaleDown:
        stabilizationWindowSeconds: {{ $scaling.scaleDownWindowSeconds }}
        policies:
          - {type: Pods, value: 1, periodSeconds: {{ $scaling.scaleDownPeriodSeconds }}}
{{- end -}}

{{/* Args: root, room. */}}
{{- define "stepaudio.room.scaledObject" -}}
{{- $values := include "stepaudio.room.values" . | fromYaml -}}
{{- $scaling := $values.autoscaling -}}
{{- $model := get (dict "tokenizer" "speech_tokenizer" "lm" "step1_chat" "tts" "step1_tts" "vocoder" "token_to_wave") .room -}}
{{- $here := printf "namespace=%q" .root.Release.Namespace -}}
{{- if and (gt (int $scaling.openRequests) 0) (not (has .room (list "lm" "tts"))) -}}
{{- fail (printf "%s.autoscaling.openRequests: only lm and tts count replies under way" .room) -}}
{{- end -}}
{{- if and (gt (int $scaling.kvCachePercent) 0) (not (has .room (list "lm" "tts"))) -}}
{{- fail (printf "%s.autoscaling.kvCachePercent: only lm and tts have a KV cache" .room) -}}
{{- end -}}
{{- if and (gt (int $scaling.queueMs) 0) (has .room (list "lm" "tts")) -}}
{{- fail (printf "%s.autoscaling.queueMs: requests of a language model do not wait in Triton's queue; use openRequests" .room) -}}
{{- end -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "stepaudio.metadata" (dict "root" .root "component" .room) | nindent 2 }}
spec:
  scaleTargetRef:
    {{- if and (eq .room "lm") (gt (int .root.Values.lmGroup.nodes) 1) }}
    apiVersion: leaderworkerset.x-k8s.io/v1
    kind: LeaderWorkerSet
    {{- else }}
    apiVersion: apps/v1
    kind: Deployment
    {{- end }}
    name: {{ include "stepaudio.name" .root }}-{{ .room }}
  {{- include "stepaudio.scaling" (dict "root" .root "min" $scaling.minReplicas "max" $scaling.maxReplicas) | nindent 2 }}
  triggers:
    {{- $share := divf .root.Values.autoscaling.sessionsPerUnit $scaling.ratio }}
    {{- include "stepaudio.trigger" (dict "root" .root "name" "sessions" "threshold" (printf "%.3f" $share) "query" (printf "sum(stepaudio_orchestrator_open_sessions{%s})" $here)) | nindent 4 }}
    {{- if gt (int $scaling.queueMs) 0 }}
    {{- $of := printf "{%s,model=%q}[2m]" $here $model }}
    {{- include "stepaudio.trigger" (dict "root" .root "name" "queue" "value" true "threshold" (toString $scaling.queueMs) "query" (printf "sum(rate(nv_inference_queue_duration_us%s)) / clamp_min(sum(rate(nv_inference_request_success%s)), 0.001) / 1000" $of $of)) | nindent 4 }}
    {{- end }}
    {{- if gt (int $scaling.openRequests) 0 }}
    {{- include "stepaudio.trigger" (dict "root" .root "name" "open-requests" "threshold" (toString $scaling.openRequests) "query" (printf "sum(stepaudio_%s_open_requests{%s})" $model $here)) | nindent 4 }}
    {{- end }}
    {{- if and (gt (int $scaling.kvCachePercent) 0) (eq $values.engine "vllm") }}
    {{- include "stepaudio.trigger" (dict "root" .root "name" "kv-cache" "value" true "threshold" (toString $scaling.kvCachePercent) "query" (printf "100 * avg(stepaudio_%s_kv_cache_used_ratio{%s})" $model $here)) | nindent 4 }}
    {{- end }}
    {{- if gt (int $scaling.firstOutputMs) 0 }}
    {{- include "stepaudio.trigger" (dict "root" .root "name" "first-output" "value" true "threshold" (toString $scaling.firstOutputMs) "query" (printf "1000 * histogram_quantile(0.95, sum by (le) (rate(stepaudio_orchestrator_room_first_output_seconds_bucket{%s,room=%q}[2m]))) >= 0 or vector(0)" $here .room)) | nindent 4 }}
    {{- end }}
    {{- if gt (float64 .root.Values.autoscaling.deadlineMisses) 0.0 }}
    {{- include "stepaudio.trigger" (dict "root" .root "name" "deadline-misses" "value" true "threshold" (toString .root.Values.autoscaling.deadlineMisses) "query" (printf "sum(rate(stepaudio_orchestrator_errors_total{%s,reason=\"DEADLINE_EXCEEDED\"}[2m]))" $here)) | nindent 4 }}
    {{- end }}
{{- end -}}
