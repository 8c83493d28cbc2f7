{{/* Names, labels and references that the templates share. */}}

{{- define "confab.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods of one part: dict "root" $ "part" "edge". A Deployment's selector can never change, so nothing else belongs here. */}}
{{- define "confab.selector" -}}
app.kubernetes.io/name: confab
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{/* What selects every pod of the release. */}}
{{- define "confab.ours" -}}
app.kubernetes.io/name: confab
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "confab.labels" -}}
{{ include "confab.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* name and labels of an object of one part: dict "root" $ "part" "edge" "name" (default: that of the part). */}}
{{- define "confab.metadata" -}}
name: {{ .name | default (printf "%s-%s" (include "confab.fullname" .root) .part) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "confab.labels" . | nindent 2 }}
{{- end -}}

{{/* The reference of an image of confab's: dict "root" $ "name" "edge" "image" "" (a full reference wins). */}}
{{- define "confab.image" -}}
{{- if .image -}}
{{- .image -}}
{{- else -}}
{{- $images := .root.Values.images -}}
{{- with $images.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ .name }}:{{ $images.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* A share of an amount of memory, in Mi: dict "amount" "1Gi" "percent" 90. */}}
{{- define "confab.share" -}}
{{- $mi := 0 -}}
{{- if hasSuffix "Gi" .amount -}}
{{- $mi = mul 1024 (trimSuffix "Gi" .amount | int) -}}
{{- else if hasSuffix "Mi" .amount -}}
{{- $mi = trimSuffix "Mi" .amount | int -}}
{{- else -}}
{{- fail (printf "%q is not an amount such as 64Mi or 1Gi" .amount) -}}
{{- end -}}
{{- div (mul $mi (int .percent)) 100 -}}
{{- end -}}

{{/* The seconds of a duration such as 1m30s, rounded up. */}}
{{- define "confab.seconds" -}}
{{- if not (regexMatch "^([0-9]+(h|ms|m|s))+$" .) -}}
{{- fail (printf "%q is not a duration such as 1m30s" .) -}}
{{- end -}}
{{- $ms := 0 -}}
{{- range regexFindAll "[0-9]+(h|ms|m|s)" . -1 -}}
{{- $n := regexFind "^[0-9]+" . | int -}}
{{- $ms = add $ms (mul $n (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- div (add $ms 999) 1000 -}}
{{- end -}}

{{/* Where the programs find NATS. */}}
{{- define "confab.natsURL" -}}
{{- $nats := .Values.nats -}}
{{- if not $nats.enabled -}}
{{- required "nats.url: without nats.enabled it must name the NATS servers" $nats.url -}}
{{- else -}}
{{- ternary "tls" "nats" (ne $nats.tlsSecret "") }}://{{ include "confab.fullname" . }}-nats.{{ .Release.Namespace }}.svc:4222
{{- end -}}
{{- end -}}

{{/* Copies of each stream. */}}
{{- define "confab.copies" -}}
{{- with .Values.nats.copies -}}
{{- . -}}
{{- else -}}
{{- ternary 3 1 (and .Values.nats.enabled (ge (int .Values.nats.replicas) 3)) -}}
{{- end -}}
{{- end -}}
