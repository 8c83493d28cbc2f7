{{/* Rules of network policies. Kubelets ask their probes from the node, which policies do not stop. */}}

{{/* Leave to look names up. */}}
{{- define "confab.names" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
  {{- with .Values.network.names }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* Leave to reach NATS, and nothing else. */}}
{{- define "confab.toNATS" -}}
{{ include "confab.names" . -}}
{{- if .Values.nats.enabled }}
- ports:
    - port: clients
  to:
    - podSelector:
        matchLabels:
          {{- include "confab.selector" (dict "root" $ "part" "nats") | nindent 10 }}
{{- else }}
- ports:
    - port: {{ int .Values.network.natsPort }}
  {{- with .Values.network.natsServers }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}
