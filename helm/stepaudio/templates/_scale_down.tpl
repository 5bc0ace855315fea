{{/* Which server goes when a pool shrinks: the emptiest, by the deletion costs that a pod of its own writes. */}}

{{- define "stepaudio.scaleDown.on" -}}
{{- if and .Values.autoscaling.enabled .Values.autoscaling.emptiestFirst.enabled }}true{{ end -}}
{{- end -}}

{{/* The load of each pod of each pool whose controller reads costs. Not the vocoder, whose servers hold nothing between
     requests of a second; not Ray's replicas, which Serve itself chooses; not an lm over nodes, whose groups go by number. */}}
{{- define "stepaudio.scaleDown.queries" -}}
{{- $here := printf "{namespace=%q}" .Release.Namespace -}}
{{- if eq .Values.orchestrator.mode "plain" }}
- orchestrator=max by (pod) (stepaudio_orchestrator_open_sessions{{ $here }})
{{- end }}
- tokenizer=max by (pod) (stepaudio_speech_tokenizer_open_sequences{{ $here }})
{{- if eq (int .Values.lmGroup.nodes) 1 }}
- lm=max by (pod) (stepaudio_step1_chat_open_requests{{ $here }})
{{- end }}
- tts=max by (pod) (stepaudio_step1_tts_open_requests{{ $here }})
{{- end -}}

{{/* Port of Prometheus. */}}
{{- define "stepaudio.scaleDown.prometheusPort" -}}
{{- $url := urlParse .Values.autoscaling.prometheusAddress -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- end -}}
