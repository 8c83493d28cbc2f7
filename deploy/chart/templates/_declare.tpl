{{/* The manifests of functions beside confab's own, as files by name. */}}
{{- define "confab.manifests" -}}
{{- $manifests := dict -}}
{{- range $name, $values := .Values.functions.own -}}
{{- with $values.manifest -}}
{{- $_ := set $manifests (printf "%s.yaml" $name) . -}}
{{- end -}}
{{- end -}}
{{- toYaml $manifests -}}
{{- end -}}

{{/* The arguments of confab declare: the copies, the functions of one's own, and how each function scales in this release. */}}
{{- define "confab.declareArguments" -}}
{{- $manifests := include "confab.manifests" . | fromYaml -}}
{{- $scales := list -}}
{{- range $name, $f := include "confab.functions" . | fromYaml -}}
{{- if or (hasKey $.Values.functions.builtIn $name) (hasKey $manifests (printf "%s.yaml" $name)) -}}
{{- $scales = append $scales (printf "%s=%d:%d:%d" $name (int $f.scale.min) (int $f.scale.max) (int $f.scale.wake)) -}}
{{- end -}}
{{- end -}}
- declare
- --replicas
- {{ include "confab.copies" . | quote }}
- --wait
- {{ .Values.declare.wait }}
- --scale
- {{ join "," $scales }}
{{- if $manifests }}
- --manifests
- /etc/confab/manifests/{{ join ",/etc/confab/manifests/" (keys $manifests | sortAlpha) }}
{{- end }}
{{- end -}}

{{/* The spec of the Job. */}}
{{- define "confab.declare" -}}
{{- $part := dict "root" . "part" "declare" "user" "deployer" -}}
{{- $manifests := include "confab.manifests" . | fromYaml -}}
backoffLimit: 20
template:
  metadata:
    {{- include "confab.podMetadata" $part | nindent 4 }}
  spec:
    {{- include "confab.pod" $part | nindent 4 }}
    restartPolicy: OnFailure
    containers:
      - name: declare
        image: {{ include "confab.image" (dict "root" . "name" "confab" "image" .Values.declare.image) }}
        imagePullPolicy: {{ .Values.images.pullPolicy }}
        args:
          {{- include "confab.declareArguments" . | nindent 10 }}
        {{- include "confab.security" . | nindent 8 }}
        env:
          {{- include "confab.environment" $part | nindent 10 }}
        {{- include "confab.resources" .Values.declare.resources | nindent 8 }}
        volumeMounts:
          {{- with include "confab.mounts" $part | trim }}{{ . | nindent 10 }}{{ end }}
          {{- if $manifests }}
          - name: manifests
            mountPath: /etc/confab/manifests
            readOnly: true
          {{- end }}
    volumes:
      {{- with include "confab.volumes" $part | trim }}{{ . | nindent 6 }}{{ end }}
      {{- if $manifests }}
      - name: manifests
        configMap:
          name: {{ include "confab.fullname" . }}-declare
      {{- end }}
{{- end -}}
