{{/* Where KEDA finds the scaler. */}}
{{- define "confab.scalerAddress" -}}
{{- .Values.scaler.address | default (printf "%s-scaler.%s.svc:6000" (include "confab.fullname" .) .Release.Namespace) -}}
{{- end -}}

{{/* How KEDA proves who it is to the scaler. */}}
{{- define "confab.trigger" -}}
{{- if .Values.scaler.tlsSecret -}}
authenticationRef:
  name: {{ include "confab.fullname" . }}-scaler
{{- end -}}
{{- end -}}
