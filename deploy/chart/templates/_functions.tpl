{{/*
confab.functions returns every function that runs, by name, as YAML: confab's own from functions.builtIn, others from functions.own, where a manifest fills in
what the values leave out. What is in it is checked and final.
*/}}
{{- define "confab.functions" -}}
{{- $functions := .Values.functions -}}
{{- $all := dict -}}
{{- range $name, $values := $functions.builtIn -}}
{{- $image := dict "root" $ "name" $name "image" $values.image -}}
{{- $args := list -}}
{{- if eq $functions.images "multicall" -}}
{{- $_ := set $image "name" "confab" -}}
{{- $args = list "function" $name -}}
{{- end -}}
{{- $f := merge (dict "image" (include "confab.image" $image)) (deepCopy $values) (dict "args" $args) -}}
{{- $_ := set $all $name $f -}}
{{- end -}}
{{- range $name, $values := $functions.own -}}
{{- if hasKey $all $name -}}
{{- fail (printf "functions.own: %s is one of confab's own functions" $name) -}}
{{- end -}}
{{- $_ := set $all $name (include "confab.ownFunction" (dict "name" $name "values" $values) | fromYaml) -}}
{{- end -}}
{{- $final := dict -}}
{{- range $name, $f := $all -}}
{{- if ne (get $f "enabled" | toString) "false" -}}
{{- include "confab.checkFunction" (dict "name" $name "function" $f) -}}
{{- if eq $functions.sleep "all" -}}
{{- $_ := set $f.scale "min" 0 -}}
{{- else if eq $functions.sleep "none" -}}
{{- $_ := set $f.scale "min" (max 1 (int $f.scale.min)) -}}
{{- end -}}
{{- $_ := set $final $name $f -}}
{{- end -}}
{{- end -}}
{{- toYaml $final -}}
{{- end -}}

{{/* The values of a function that is not confab's, with those of its manifest where they are missing: dict "name" "translate" "values" (dict). */}}
{{- define "confab.ownFunction" -}}
{{- $f := deepCopy .values -}}
{{- $at := printf "functions.own.%s" .name -}}
{{- $_ := required (printf "%s.image: which image holds it?" $at) $f.image -}}
{{- with $f.manifest -}}
{{- $manifest := fromYaml . -}}
{{- with $manifest.Error -}}
{{- fail (printf "%s.manifest is not YAML: %s" $at .) -}}
{{- end -}}
{{- if ne $manifest.function $.name -}}
{{- fail (printf "%s.manifest is that of the function %q" $at $manifest.function) -}}
{{- end -}}
{{- $longest := 0 -}}
{{- range $method := $manifest.methods -}}
{{- $longest = max $longest (include "confab.seconds" $method.timeout | int) -}}
{{- end -}}
{{- $said := dict "concurrency" $manifest.concurrency "scale" $manifest.scale "resources" $manifest.resources "settings" ($manifest.environment | default list) -}}
{{- $f = merge $f $said (dict "drain" (printf "%ds" (max 5 $longest))) -}}
{{- end -}}
{{- range list "concurrency" "scale" "drain" "resources" -}}
{{- if not (get $f .) -}}
{{- fail (printf "%s.%s is missing; give it, or the text of function.yaml as %s.manifest" $at . $at) -}}
{{- end -}}
{{- end -}}
{{- toYaml $f -}}
{{- end -}}

{{/* Fails where a function's values cannot be: dict "name" "send" "function" (dict). */}}
{{- define "confab.checkFunction" -}}
{{- $f := .function -}}
{{- if has .name (list "admin" "declare" "deployer" "edge" "nats" "operator" "scaler" "supervisor" "viewer") -}}
{{- fail (printf "functions: %s is the name of something else" .name) -}}
{{- end -}}
{{- $settings := $f.settings | default list -}}
{{- $given := keys ($f.environment | default dict) -}}
{{- range $f.secrets -}}
{{- $given = append $given .name -}}
{{- end -}}
{{- range $given -}}
{{- if and (hasPrefix "CONFAB_" .) (not (has . $settings)) -}}
{{- fail (printf "functions: %s has no setting %s, only: %s" $.name . (join " " $settings)) -}}
{{- end -}}
{{- end -}}
{{- $s := $f.scale -}}
{{- if or (lt (int $s.max) (max 1 (int $s.min))) (lt (int $s.wake) 1) (gt (int $s.wake) (int $s.max)) -}}
{{- fail (printf "functions: %s: scale {min: %v, max: %v, wake: %v} is not 0 ≤ min ≤ max and 1 ≤ wake ≤ max" .name $s.min $s.max $s.wake) -}}
{{- end -}}
{{- end -}}
