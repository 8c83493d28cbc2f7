{{/* What every pod has: an unprivileged user, a root that cannot be written, no token of the cluster. */}}

{{/* The first lines of a pod's spec: dict "root" $ "part" "edge". Services must not become variables: one that begins with CONFAB_ and is no setting is an error. */}}
{{- define "confab.pod" -}}
{{- $pods := .root.Values.pods -}}
automountServiceAccountToken: false
enableServiceLinks: false
serviceAccountName: {{ include "confab.fullname" .root }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ int $pods.user }}
  runAsGroup: {{ int $pods.user }}
  fsGroup: {{ int $pods.user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $pods.priorityClass }}
priorityClassName: {{ . }}
{{- end }}
{{- with $pods.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pods.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Pods of a part spread over nodes and zones where they can: dict "root" $ "part" "edge". */}}
{{- define "confab.spread" -}}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "confab.selector" $ | nindent 8 }}
  {{- end }}
{{- end -}}

{{/* The labels and annotations of a pod: dict "root" $ "part" "edge" "annotations" (dict). The version of the chart is none of them: it would start all pods anew. */}}
{{- define "confab.podMetadata" -}}
{{- $annotations := merge (.annotations | default dict) .root.Values.pods.annotations -}}
labels:
  {{- include "confab.selector" . | nindent 2 }}
  {{- with .root.Values.pods.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "confab.security" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* The variables of every program of confab: dict "root" $ "user" "send". POD_IP comes first, since others refer to it. */}}
{{- define "confab.environment" -}}
{{- $nats := .root.Values.nats -}}
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: CONFAB_NATS_URL
  value: {{ include "confab.natsURL" .root | quote }}
{{- if $nats.users }}
- name: CONFAB_NATS_NKEY
  value: /etc/confab/nats/{{ .user }}.nk
{{- end }}
{{- if $nats.caSecret }}
- name: CONFAB_NATS_CA
  value: /etc/confab/ca/ca.crt
{{- end }}
{{- end -}}

{{/* The variables of every program that runs for long: how it logs and where probes ask it. */}}
{{- define "confab.serving" -}}
{{- $values := .root.Values -}}
- name: CONFAB_LOG
  value: {{ $values.log.level }}
- name: CONFAB_LOG_FORMAT
  value: {{ $values.log.format }}
- name: CONFAB_OPS_LISTEN
  value: {{ printf "%s:9090" $values.pods.listen | quote }}
{{- end -}}

{{/* The variables that a user of the chart sets: dict "environment" (dict) "secrets" (list). */}}
{{- define "confab.own" -}}
{{- range $name, $value := .environment }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- range .secrets }}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end }}
{{- end -}}

{{/* Mounts and volumes of the seed and of the certificates of NATS: dict "root" $ "user" "send". */}}
{{- define "confab.mounts" -}}
{{- if .root.Values.nats.users }}
- name: nats-user
  mountPath: /etc/confab/nats
  readOnly: true
{{- end }}
{{- if .root.Values.nats.caSecret }}
- name: nats-ca
  mountPath: /etc/confab/ca
  readOnly: true
{{- end }}
{{- end -}}

{{- define "confab.volumes" -}}
{{- $nats := .root.Values.nats -}}
{{- if $nats.users }}
- name: nats-user
  secret:
    secretName: {{ $nats.secrets }}-{{ .user }}
    defaultMode: 0440
{{- end }}
{{- if $nats.caSecret }}
- name: nats-ca
  secret:
    secretName: {{ $nats.caSecret }}
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}
{{- end -}}

{{/* What an instance is given, as requests and as a limit of memory: dict "cpu" "100m" "memory" "64Mi". A limit of cpu would slow down exactly those that work. */}}
{{- define "confab.resources" -}}
resources:
  requests:
    cpu: {{ .cpu }}
    memory: {{ .memory }}
  limits:
    memory: {{ .memory }}
{{- end -}}

{{/* The probes of a program of confab. A program that cannot reach NATS is alive and not ready: starting it again mends nothing. Readiness is asked every second, since it costs
     little, and since nothing wakes functions between the start of a scaler that was alone and its readiness. */}}
{{- define "confab.probes" -}}
livenessProbe:
  httpGet:
    path: /livez
    port: ops
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: ops
  periodSeconds: 1
  timeoutSeconds: 5
{{- end -}}
