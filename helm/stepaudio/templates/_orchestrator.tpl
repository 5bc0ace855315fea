{{/* The orchestrator: one container, under Ray or plain. */}}

{{- define "stepaudio.orchestrator.check" -}}
{{- $own := .Values.orchestrator -}}
{{- if gt (int $own.minReplicas) (int $own.maxReplicas) -}}
{{- fail (printf "orchestrator: minReplicas %d is above maxReplicas %d" (int $own.minReplicas) (int $own.maxReplicas)) -}}
{{- end -}}
{{- if gt (int $own.targetSessions) (int $own.maxSessions) -}}
{{- fail (printf "orchestrator: targetSessions %d is above maxSessions %d" (int $own.targetSessions) (int $own.maxSessions)) -}}
{{- end -}}
{{- if lt (int $own.drainSeconds) (int .Values.longestTurnSeconds) -}}
{{- fail (printf "orchestrator.drainSeconds %d is below longestTurnSeconds %d: replies would be cut" (int $own.drainSeconds) (int .Values.longestTurnSeconds)) -}}
{{- end -}}
{{- if eq (int .Values.api.port) (int $own.metricsPort) -}}
{{- fail (printf "api.port and orchestrator.metricsPort are both %d" (int .Values.api.port)) -}}
{{- end -}}
{{- if and .Values.api.tls.enabled (not .Values.api.tls.secretName) -}}
{{- fail "api.tls is on and api.tls.secretName is empty" -}}
{{- end -}}
{{- if and .Values.api.tls.clientAuthoritySecretName (not .Values.api.tls.enabled) -}}
{{- fail "api.tls.clientAuthoritySecretName asks callers for certificates, which needs api.tls.enabled" -}}
{{- end -}}
{{- if and (eq $own.mode "kuberay") $own.ray.gcsFaultTolerance (not (include "stepaudio.redis.rayAddress" .)) -}}
{{- fail "orchestrator.ray.gcsFaultTolerance needs redis.enabled, or redis.external.rayAddress; or turn it off" -}}
{{- end -}}
{{- end -}}

{{- define "stepaudio.orchestrator.drainWait" -}}
{{- add (int .Values.orchestrator.drainSeconds) 30 -}}
{{- end -}}

{{- define "stepaudio.orchestrator.env" -}}
{{- $name := include "stepaudio.name" . }}
{{- $own := .Values.orchestrator }}
{{- $settings := dict
  "STEPAUDIO_LISTEN" (printf "0.0.0.0:%d" (int .Values.api.port))
  "STEPAUDIO_METRICS_LISTEN" (printf "0.0.0.0:%d" (int $own.metricsPort))
  "STEPAUDIO_CHECKPOINTS" (include "stepaudio.checkpointPath" .)
  "STEPAUDIO_CREDENTIALS" "/etc/stepaudio/credentials/credentials.json"
  "STEPAUDIO_MAX_SESSIONS" $own.maxSessions
  "STEPAUDIO_MAX_TENANT_SESSIONS" $own.maxTenantSessions
  "STEPAUDIO_MAX_TENANT_CALLS" $own.maxTenantCalls
  "STEPAUDIO_MAX_TENANT_SPECULATIONS" $own.maxTenantSpeculations
  "STEPAUDIO_TENANT_WASTED_TOKENS" $own.tenantWastedTokens
  "STEPAUDIO_MAX_DEGRADATION" $own.maxDegradation
  "STEPAUDIO_MAX_PLAYOUT_LEAD_MS" $own.maxPlayoutLeadMs
  "STEPAUDIO_RESUME_WINDOW_S" $own.resumeWindowSeconds
  "STEPAUDIO_MAX_IDLE_S" $own.maxIdleSeconds
  "STEPAUDIO_MAX_SESSION_S" $own.maxSessionSeconds
  "STEPAUDIO_DRAIN_GRACE_S" $own.drainSeconds
  "STEPAUDIO_VOICE" $own.voice
  "STEPAUDIO_SYSTEM_PROMPT" $own.systemPrompt
  "STEPAUDIO_TOOL_CALL_FORM" $own.tools.callForm
  "STEPAUDIO_LOG_LEVEL" .Values.telemetry.logLevel
  "STEPAUDIO_OTLP_ENDPOINT" .Values.telemetry.otlpEndpoint
  "STEPAUDIO_MIN_REPLICAS" $own.minReplicas
  "STEPAUDIO_MAX_REPLICAS" $own.maxReplicas
  "STEPAUDIO_TARGET_SESSIONS" $own.targetSessions
  "OMP_NUM_THREADS" 1
  "HOME" "/tmp"
}}
{{- range $room := list "tokenizer" "lm" "tts" "vocoder" }}
{{- $values := include "stepaudio.room.values" (dict "root" $ "room" $room) | fromYaml }}
{{- $_ := set $settings (printf "STEPAUDIO_%s_ADDRESS" (upper $room)) (printf "%s-%s.%s.svc:%d" $name $room $.Release.Namespace (int $values.port)) }}
{{- end }}
{{- if $own.tools.secretName }}
{{- $_ := set $settings "STEPAUDIO_TOOLS" "/etc/stepaudio/tools/tools.json" }}
{{- end }}
{{- if .Values.api.tls.enabled }}
{{- $_ := set $settings "STEPAUDIO_TLS_CERTIFICATE" "/etc/stepaudio/api-tls/tls.crt" }}
{{- $_ := set $settings "STEPAUDIO_TLS_KEY" "/etc/stepaudio/api-tls/tls.key" }}
{{- if .Values.api.tls.clientAuthoritySecretName }}
{{- $_ := set $settings "STEPAUDIO_TLS_CLIENT_AUTHORITIES" "/etc/stepaudio/client-authority/ca.crt" }}
{{- end }}
{{- end }}
{{- include "stepaudio.redis.clientEnv" . }}
{{- range $variable, $value := $settings }}
- name: {{ $variable }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- $taken := concat (keys $settings) (list "STEPAUDIO_REDIS_URL" "REDIS_PASSWORD" "RAY_USAGE_STATS_ENABLED" "RAY_AUTH_MODE" "RAY_REDIS_CA_CERT") }}
{{- include "stepaudio.extraEnv" (dict "env" $own.extraEnv "of" "orchestrator" "taken" $taken) }}
{{- end -}}

{{/* What Ray is told by the environment, in head and workers. */}}
{{- define "stepaudio.orchestrator.rayEnv" -}}
- name: RAY_USAGE_STATS_ENABLED
  value: "0"
{{- if not .Values.orchestrator.ray.tokenAuth }}
- name: RAY_AUTH_MODE # said aloud: a stray token in the environment would switch it on
  value: disabled
{{- end }}
{{- if and .Values.orchestrator.ray.gcsFaultTolerance (include "stepaudio.redis.authority" .) }}
- name: RAY_REDIS_CA_CERT
  value: {{ include "stepaudio.redis.authority" . }}
{{- end }}
{{- end -}}

{{- define "stepaudio.orchestrator.mounts" -}}
- name: tmp
  mountPath: /tmp
- name: shared-memory
  mountPath: /dev/shm
- name: credentials
  mountPath: /etc/stepaudio/credentials
  readOnly: true
{{- if .Values.orchestrator.tools.secretName }}
- name: tools
  mountPath: /etc/stepaudio/tools
  readOnly: true
{{- end }}
{{- if .Values.api.tls.enabled }}
- name: api-tls
  mountPath: /etc/stepaudio/api-tls
  readOnly: true
{{- if .Values.api.tls.clientAuthoritySecretName }}
- name: client-authority
  mountPath: /etc/stepaudio/client-authority
  readOnly: true
{{- end }}
{{- end }}
{{- if include "stepaudio.redis.authority" . }}
- name: redis-authority
  mountPath: /etc/stepaudio/redis-tls
  readOnly: true
{{- end }}
{{- include "stepaudio.checkpointMount" . }}
{{- end -}}

{{- define "stepaudio.orchestrator.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 1Gi
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: 256Mi
- name: credentials
  secret:
    secretName: {{ .Values.api.auth.secretName }}
    items:
      - {key: credentials.json, path: credentials.json}
{{- with .Values.orchestrator.tools.secretName }}
- name: tools
  secret:
    secretName: {{ . }}
    items:
      - {key: tools.json, path: tools.json}
{{- end }}
{{- if .Values.api.tls.enabled }}
- name: api-tls
  secret:
    secretName: {{ .Values.api.tls.secretName }}
    items:
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
{{- with .Values.api.tls.clientAuthoritySecretName }}
- name: client-authority
  secret:
    secretName: {{ . }}
    items:
      - {key: ca.crt, path: ca.crt}
{{- end }}
{{- end }}
{{- if include "stepaudio.redis.authority" . }}
- name: redis-authority
  secret:
    secretName: {{ ternary .Values.redis.tls.secretName .Values.redis.external.authoritySecretName .Values.redis.enabled }}
    items:
      - {key: ca.crt, path: ca.crt} # no client needs the servers' key
{{- end }}
{{- include "stepaudio.checkpointVolume" . }}
{{- end -}}

{{/* How a probe asks the API. The kubelet's gRPC probe speaks no TLS; there the open port has to do. */}}
{{- define "stepaudio.orchestrator.ask" -}}
{{- if .Values.api.tls.enabled -}}
tcpSocket:
  port: api
{{- else -}}
grpc:
  port: {{ .Values.api.port }}
{{- end }}
{{- end -}}

{{- define "stepaudio.orchestrator.ports" -}}
- name: api
  containerPort: {{ .Values.api.port }}
- name: metrics
  containerPort: {{ .Values.orchestrator.metricsPort }}
{{- end -}}

{{/* The ordinary Service, or the headless one. Args: root, headless. */}}
{{- define "stepaudio.orchestrator.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "stepaudio.metadata" (dict "root" .root "component" "orchestrator" "name" (ternary "orchestrator-headless" "orchestrator" .headless)) | nindent 2 }}
  {{- if not .headless }}
  {{- with .root.Values.api.serviceAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
spec:
  {{- if .headless }}
  clusterIP: None
  {{- else }}
  type: {{ .root.Values.api.serviceType }}
  {{- if gt (int .root.Values.api.affinitySeconds) 0 }}
  sessionAffinity: ClientIP
  sessionAffinityConfig:
    clientIP:
      timeoutSeconds: {{ .root.Values.api.affinitySeconds }}
  {{- end }}
  {{- end }}
  selector:
    {{- include "stepaudio.selector" (dict "root" .root "component" "orchestrator") | nindent 4 }}
  ports:
    - name: api
      port: {{ .root.Values.api.port }}
      targetPort: api
      appProtocol: {{ ternary "https" "kubernetes.io/h2c" .root.Values.api.tls.enabled }}
    {{- if .headless }}
    - name: metrics
      port: {{ .root.Values.orchestrator.metricsPort }}
      targetPort: metrics
    {{- end }}
{{- end -}}
