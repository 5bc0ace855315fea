{{/* The four Triton rooms: one shape, filled with roomDefaults and what each says otherwise. */}}

{{/* The room's own values over the defaults, as YAML. Args: root, room. */}}
{{- define "stepaudio.room.values" -}}
{{- $room := mergeOverwrite (deepCopy .root.Values.roomDefaults) (deepCopy (index .root.Values .room)) -}}
{{- if and (eq (int $room.maxSurge) 0) (eq (int $room.maxUnavailable) 0) -}}
{{- fail (printf "%s: maxSurge and maxUnavailable are both 0, so no version could ever be replaced" .room) -}}
{{- end -}}
{{- if gt (int $room.autoscaling.minReplicas) (int $room.autoscaling.maxReplicas) -}}
{{- fail (printf "%s.autoscaling: minReplicas %d is above maxReplicas %d" .room (int $room.autoscaling.minReplicas) (int $room.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- if eq (int $room.port) (int $room.metricsPort) -}}
{{- fail (printf "%s: port and metricsPort are both %d" .room (int $room.port)) -}}
{{- end -}}
{{- if and (gt (int $room.canary.replicas) 0) (not (or $room.canary.tag $room.canary.digest)) -}}
{{- fail (printf "%s.canary: replicas is above 0, and neither tag nor digest says which image is tried" .room) -}}
{{- end -}}
{{- $speaks := has .room (list "lm" "tts") -}}
{{- if or (and $speaks (not (has $room.engine (list "torch" "vllm")))) (and (not $speaks) (eq $room.engine "vllm")) -}}
{{- fail (printf "%s.engine is %s, which does not compute what this room does" .room $room.engine) -}}
{{- end -}}
{{- if and (not (has $room.engine (list "torch" "vllm"))) (not .root.Values.engines.enabled) -}}
{{- fail (printf "%s.engine is %s, and engines.enabled is off: nothing would make what it runs" .room $room.engine) -}}
{{- end -}}
{{- if and (has $room.engine (list "vllm" "tensorrt" "onnxruntime-tensorrt")) (eq (int $room.gpu.count) 0) -}}
{{- fail (printf "%s.engine is %s, and gpu.count is 0" .room $room.engine) -}}
{{- end -}}
{{- range $room.extraArgs -}}
{{- if regexMatch "^--?(model-control|load-model|allow-http|http-|grpc-restricted|model-repository|repository-poll|grpc-address|metrics-address)" . -}}
{{- fail (printf "extraArgs %q: what a server listens to and how its models are controlled is the chart's" .) -}}
{{- end -}}
{{- end -}}
{{- if and (eq .room "lm") (gt (int .root.Values.lmGroup.nodes) 1) -}}
{{- if not .root.Values.lmGroup.workerCommand -}}
{{- fail "lmGroup.nodes is above 1: lmGroup.workerCommand must say what runs on the nodes beside the first" -}}
{{- end -}}
{{- if gt (int $room.canary.replicas) 0 -}}
{{- fail "lm.canary is a Deployment beside a Deployment; with lmGroup.nodes above 1 use lmGroup.partition" -}}
{{- end -}}
{{- end -}}
{{- toYaml $room -}}
{{- end -}}

{{/* Seconds that endpoints need to forget a pod that ends. */}}
{{- define "stepaudio.room.preStopSeconds" -}}10{{- end -}}

{{/* The image of a room, or of its canary. Args: root, room, values, canary (bool). */}}
{{- define "stepaudio.room.image" -}}
{{- $image := deepCopy (index .root.Values.images .room) -}}
{{- if .canary -}}
{{- $image = mergeOverwrite $image (dict "tag" .values.canary.tag "digest" .values.canary.digest) -}}
{{- end -}}
{{- include "stepaudio.image" (dict "root" .root "image" $image "of" .room) -}}
{{- end -}}

{{/* What makes the graphs or plans that a room's engine runs. Args: root, room, values, build. */}}
{{- define "stepaudio.room.buildCommand" -}}
{{- $cache := .root.Values.engines.path -}}
{{- $both := list (printf "--checkpoints=%s" (include "stepaudio.checkpointPath" .root)) (printf "--cache=%s" $cache) -}}
{{- if .build.command -}}
{{- toYaml .build.command -}}
{{- else if eq .values.engine "tensorrt" -}}
{{- toYaml (concat (list "python3" "-m" (printf "services.%s.engine.build" .room)) $both (list (printf "--precision=%s" .root.Values.engines.precision))) -}}
{{- else if hasPrefix "onnxruntime" .values.engine -}}
{{- toYaml (concat (list "python3" "-m" (printf "services.%s.engine" .room)) $both) -}}
{{- else -}}
{{- fail (printf "engines.builds: %s has no command, and %s.engine is %s, which needs no build" .build.name .room .values.engine) -}}
{{- end -}}
{{- end -}}

{{/* Environment of a room's container, for server, group and engine builder alike. Args: root, room, values. */}}
{{- define "stepaudio.room.env" -}}
- name: STEPAUDIO_CHECKPOINTS
  value: {{ include "stepaudio.checkpointPath" .root }}
- name: STEPAUDIO_DEVICE
  value: {{ ternary "cuda" "cpu" (gt (int .values.gpu.count) 0) }}
- name: STEPAUDIO_ENGINE
  value: {{ .values.engine }}
- name: STEPAUDIO_DTYPE # graphs and plans are float32 outside
  value: {{ ternary .values.dtype "float32" (has .values.engine (list "torch" "vllm")) }}
- name: STEPAUDIO_THREADS
  value: {{ .values.threads | quote }}
- name: STEPAUDIO_MAX_BATCH
  value: {{ .values.maxBatch | quote }}
- name: STEPAUDIO_LOG_LEVEL
  value: {{ .root.Values.telemetry.logLevel }}
- name: STEPAUDIO_OTLP_ENDPOINT
  value: {{ .root.Values.telemetry.otlpEndpoint | quote }}
- name: OMP_NUM_THREADS
  value: {{ .values.threads | quote }}
{{- if eq .values.engine "vllm" }}
- name: STEPAUDIO_TENSOR_PARALLEL
  value: {{ .values.gpu.count | quote }}
- name: STEPAUDIO_PIPELINE_PARALLEL
  value: {{ ternary .root.Values.lmGroup.nodes 1 (eq .room "lm") | quote }}
{{- end }}
{{- if .root.Values.engines.enabled }}
- name: STEPAUDIO_GRAPH_CACHE
  value: {{ .root.Values.engines.path }}
- name: STEPAUDIO_PLAN_PRECISION
  value: {{ .root.Values.engines.precision }}
{{- end }}
- name: HOME # of what keeps caches there; the root is read-only
  value: /tmp
{{- include "stepaudio.extraEnv" (dict "env" .values.extraEnv "of" .room "taken" (list "STEPAUDIO_CHECKPOINTS" "STEPAUDIO_DEVICE" "STEPAUDIO_DTYPE" "STEPAUDIO_THREADS" "STEPAUDIO_MAX_BATCH" "STEPAUDIO_LOG_LEVEL" "STEPAUDIO_OTLP_ENDPOINT" "OMP_NUM_THREADS" "STEPAUDIO_ENGINE" "STEPAUDIO_TENSOR_PARALLEL" "STEPAUDIO_PIPELINE_PARALLEL" "STEPAUDIO_GRAPH_CACHE" "STEPAUDIO_PLAN_PRECISION" "HOME" "POD_UID")) }}
{{- end -}}

{{/* Requests and limits with the GPUs. Args: values. */}}
{{- define "stepaudio.room.resources" -}}
{{- $resources := deepCopy .values.resources -}}
{{- if gt (int .values.gpu.count) 0 -}}
{{- $_ := set $resources.requests .values.gpu.resource (toString .values.gpu.count) -}}
{{- $_ := set $resources.limits .values.gpu.resource (toString .values.gpu.count) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* Volumes and mounts. Args: root, values, building (whether engines are written). */}}
{{- define "stepaudio.room.volumes" -}}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ .values.sharedMemory }}
- name: tmp
  emptyDir:
    sizeLimit: 1Gi
{{- include "stepaudio.checkpointVolume" .root }}
{{- if .root.Values.engines.enabled }}
- name: engines
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-engines" (include "stepaudio.name" .root)) .root.Values.engines.claim.existing }}
    readOnly: {{ not .building }}
{{- end }}
{{- end -}}

{{- define "stepaudio.room.mounts" -}}
- name: shared-memory
  mountPath: /dev/shm
- name: tmp
  mountPath: /tmp
{{- include "stepaudio.checkpointMount" .root }}
{{- if .root.Values.engines.enabled }}
- name: engines
  mountPath: {{ .root.Values.engines.path }}
  readOnly: {{ not .building }}
{{- end }}
{{- end -}}

{{/* The pod that serves. Args: root, room, values, canary (bool). */}}
{{- define "stepaudio.room.pod" -}}
{{- $grace := int .root.Values.longestTurnSeconds -}}
{{- $preStop := int (include "stepaudio.room.preStopSeconds" .) -}}
metadata:
  {{- include "stepaudio.podMetadata" (dict "root" .root "component" .room "own" (dict "stepaudio.io/track" (ternary "canary" "stable" .canary))) | nindent 2 }}
spec:
  {{- include "stepaudio.podStart" (dict "root" .root "component" .room) | nindent 2 }}
  {{- include "stepaudio.placement" (dict "root" .root "component" .room "place" .values) | nindent 2 }}
  terminationGracePeriodSeconds: {{ add $preStop $grace 15 }}
  containers:
    - name: triton
      image: {{ include "stepaudio.room.image" . | quote }}
      imagePullPolicy: {{ .root.Values.images.pullPolicy }}
      securityContext:
        {{- include "stepaudio.containerSecurity" . | nindent 8 }}
      args:
        - --model-repository=/opt/stepaudio/model_repository/{{ .room }}
        - --model-control-mode=none
        - --disable-auto-complete-config
        - --allow-http=false
        - --grpc-address=0.0.0.0
        - --grpc-port={{ .values.port }}
        - --metrics-address=0.0.0.0
        - --metrics-port={{ .values.metricsPort }}
        - --allow-gpu-metrics={{ gt (int .values.gpu.count) 0 }}
        # Nobody on the network knows the key, so these doors are closed: regions of shared memory, loading, settings.
        - --grpc-restricted-protocol=shared-memory,model-repository,logging,trace:closed=$(POD_UID)
        - --exit-timeout-secs={{ $grace }}
        {{- range .values.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      env:
        - name: POD_UID
          valueFrom:
            fieldRef:
              fieldPath: metadata.uid
        {{- include "stepaudio.room.env" . | nindent 8 }}
      ports:
        - name: grpc
          containerPort: {{ .values.port }}
        - name: metrics
          containerPort: {{ .values.metricsPort }}
      # Triton is ready when every model has given a right answer to its warm-up, and not before.
      startupProbe:
        grpc:
          port: {{ .values.port }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: {{ max 1 (div (int .values.startupSeconds) 10) }}
      readinessProbe:
        grpc:
          port: {{ .values.port }}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      livenessProbe: # a model whose process died makes the server unready for good
        grpc:
          port: {{ .values.port }}
        periodSeconds: 15
        timeoutSeconds: 10
        failureThreshold: 4
      lifecycle:
        preStop: # until callers have looked the pool's name up again
          sleep:
            seconds: {{ $preStop }}
      resources:
        {{- include "stepaudio.room.resources" . | nindent 8 }}
      volumeMounts:
        {{- include "stepaudio.room.mounts" . | nindent 8 }}
  volumes:
    {{- include "stepaudio.room.volumes" . | nindent 4 }}
{{- end -}}

{{/* Args: root, room, canary. */}}
{{- define "stepaudio.room.deployment" -}}
{{- $values := include "stepaudio.room.values" . | fromYaml -}}
{{- $canary := .canary | default false -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "stepaudio.metadata" (dict "root" .root "component" .room "name" (ternary (printf "%s-canary" .room) .room $canary)) | nindent 2 }}
spec:
  {{- if $canary }}
  replicas: {{ $values.canary.replicas }}
  {{- else if not .root.Values.autoscaling.enabled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  progressDeadlineSeconds: {{ add (int $values.startupSeconds) (int .root.Values.longestTurnSeconds) 120 }}
  selector:
    matchLabels:
      {{- include "stepaudio.selector" (dict "root" .root "component" .room) | nindent 6 }}
      stepaudio.io/track: {{ ternary "canary" "stable" $canary }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: {{ $values.maxSurge }}
      maxUnavailable: {{ $values.maxUnavailable }}
  template:
    {{- include "stepaudio.room.pod" (dict "root" .root "room" .room "values" $values "canary" $canary) | nindent 4 }}
{{- end -}}

{{/* Headless: callers balance their requests themselves and keep an utterance on its server. Args: root, room. */}}
{{- define "stepaudio.room.service" -}}
{{- $values := include "stepaudio.room.values" . | fromYaml -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "stepaudio.metadata" (dict "root" .root "component" .room) | nindent 2 }}
spec:
  clusterIP: None
  selector:
    {{- include "stepaudio.selector" (dict "root" .root "component" .room) | nindent 4 }}
    {{- if and (eq .room "lm") (gt (int .root.Values.lmGroup.nodes) 1) }}
    leaderworkerset.sigs.k8s.io/worker-index: "0" # the leader alone serves
    {{- end }}
  ports:
    - name: grpc
      port: {{ $values.port }}
      targetPort: grpc
      appProtocol: kubernetes.io/h2c
    - name: metrics
      port: {{ $values.metricsPort }}
      targetPort: metrics
{{- end -}}

{{/* Args: root, component. */}}
{{- define "stepaudio.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "stepaudio.metadata" . | nindent 2 }}
automountServiceAccountToken: false
{{- end -}}

{{/* Args: root, room. */}}
{{- define "stepaudio.room.podDisruptionBudget" -}}
{{- $values := include "stepaudio.room.values" . | fromYaml -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "stepaudio.metadata" (dict "root" .root "component" .room) | nindent 2 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow # a server that never got ready holds no caller
  selector:
    matchLabels:
      {{- include "stepaudio.selector" (dict "root" .root "component" .room) | nindent 6 }}
{{- end -}}
