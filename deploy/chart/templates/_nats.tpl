{{/* The configuration of a NATS server; users and permissions stand in a secret beside it. Addresses are variables, whose values the pod sets. */}}
{{- define "confab.natsServer" -}}
{{- $nats := .Values.nats -}}
{{- $replicas := int $nats.replicas -}}
{{- if eq $replicas 2 -}}
{{- fail "nats.replicas: two servers stop when one does; give 1, or 3 and more" -}}
{{- end -}}
{{- if lt (include "confab.seconds" $nats.lameDuck | int) 30 -}}
{{- fail "nats.lameDuck: nats-server takes 30s and more" -}}
{{- end -}}
server_name: $POD_NAME
listen: $NATS_CLIENTS
http: $NATS_MONITOR
pid_file: "/var/run/nats/nats.pid"
ping_interval: "5s"
lame_duck_duration: {{ $nats.lameDuck | quote }}
lame_duck_grace_period: "5s"
{{- if $nats.tlsSecret }}
tls {
  cert_file: "/etc/nats/tls/tls.crt"
  key_file: "/etc/nats/tls/tls.key"
}
{{- end }}
jetstream {
  store_dir: "/data"
  sync_interval: always # what is acknowledged survives a power cut
  max_memory_store: {{ include "confab.share" (dict "amount" $nats.resources.memory "percent" 25) }}MiB
  max_file_store: {{ include "confab.share" (dict "amount" $nats.storage.size "percent" 90) }}MiB
}
{{- if gt $replicas 1 }}
cluster {
  name: {{ include "confab.fullname" . | quote }}
  listen: $NATS_ROUTES
  no_advertise: true # programs connect through the Service
  {{- if $nats.users }}
  authorization {
    user: route
    password: $NATS_ROUTE_PASSWORD
  }
  {{- end }}
  {{- if $nats.tlsSecret }}
  tls {
    cert_file: "/etc/nats/tls/tls.crt"
    key_file: "/etc/nats/tls/tls.key"
    ca_file: "/etc/nats/tls/ca.crt"
    verify: true
  }
  {{- end }}
  routes: [
    {{- range $i := until $replicas }}
    $NATS_ROUTE_{{ $i }}
    {{- end }}
  ]
}
{{- end }}
{{- if $nats.users }}
include "../users/accounts.conf"
{{- end }}
{{- end -}}
