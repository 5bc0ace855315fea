{{/* The store: what its clients need to know. */}}

{{/* Path of the authority that clients trust; empty is the system's. */}}
{{- define "stepaudio.redis.authority" -}}
{{- if or (and .Values.redis.enabled .Values.redis.tls.enabled) (and (not .Values.redis.enabled) .Values.redis.external.authoritySecretName) -}}
/etc/stepaudio/redis-tls/ca.crt
{{- end -}}
{{- end -}}

{{/* Domain of the servers' names. */}}
{{- define "stepaudio.redis.domain" -}}
{{ include "stepaudio.name" . }}-redis.{{ .Release.Namespace }}.svc
{{- end -}}

{{/* Ray keeps its own state at one address: any Sentinel's, or the only server's. */}}
{{- define "stepaudio.redis.rayAddress" -}}
{{- if .Values.redis.enabled -}}
{{ ternary "rediss://" "redis://" .Values.redis.tls.enabled }}{{ include "stepaudio.redis.domain" . }}:{{ ternary 26379 6379 (gt (int .Values.redis.replicas) 1) }}
{{- else -}}
{{ .Values.redis.external.rayAddress }}
{{- end -}}
{{- end -}}

{{/* The URL, in the forms of adapters/redis/connect.py; the password comes from its Secret when the pod starts. */}}
{{- define "stepaudio.redis.clientEnv" -}}
{{- if .Values.redis.enabled }}
{{- $domain := include "stepaudio.redis.domain" . }}
{{- $name := printf "%s-redis" (include "stepaudio.name" .) }}
{{- $several := gt (int .Values.redis.replicas) 1 }}
{{- $hosts := list }}
{{- range until (int .Values.redis.replicas) }}
{{- $hosts = append $hosts (printf "%s-%d.%s:%d" $name . $domain (ternary 26379 6379 $several)) }}
{{- end }}
{{- $options := list }}
{{- with include "stepaudio.redis.authority" . }}{{ $options = append $options (printf "ca=%s" .) }}{{ end }}
{{- if $several }}{{ $options = append $options "sentinel_password=$(REDIS_PASSWORD)" }}{{ end }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redis.secretName }}
      key: password
- name: STEPAUDIO_REDIS_URL # after the password, which it is made of
  value: {{ printf "%s%s://:$(REDIS_PASSWORD)@%s%s%s" (ternary "rediss" "redis" .Values.redis.tls.enabled) (ternary "+sentinel" "" $several) (join "," $hosts) (ternary "/stepaudio" "" $several) (ternary (printf "?%s" (join "&" $options)) "" (gt (len $options) 0)) | quote }}
{{- else }}
- name: STEPAUDIO_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "redis.enabled is off: redis.external.secretName must name the Secret with the store's url" .Values.redis.external.secretName }}
      key: url
{{- end }}
{{- end -}}

{{/* What the scripts of server and Sentinel read. */}}
{{- define "stepaudio.redis.env" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redis.secretName }}
      key: password
- name: DOMAIN
  value: {{ include "stepaudio.redis.domain" . }}
- name: REPLICAS
  value: {{ .Values.redis.replicas | quote }}
- name: TLS
  value: {{ .Values.redis.tls.enabled | quote }}
- name: DOWN_AFTER_MS
  value: {{ .Values.redis.downAfterMs | quote }}
{{- end -}}

{{- define "stepaudio.redis.mounts" -}}
- name: data
  mountPath: /data
- name: scripts
  mountPath: /opt/stepaudio/redis
  readOnly: true
- name: run
  mountPath: /run/redis
- name: tmp
  mountPath: /tmp
{{- if .Values.redis.tls.enabled }}
- name: tls
  mountPath: /etc/stepaudio/redis-tls
  readOnly: true
{{- end }}
{{- end -}}

{{/* Asks the server at a port. Args: the port. */}}
{{- define "stepaudio.redis.ping" -}}
exec:
  command: [/bin/sh, /opt/stepaudio/redis/ping.sh, {{ . | quote }}]
{{- end -}}
