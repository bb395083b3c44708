{{- /* The names are fixed: RBAC, leases and the agents refer to them. */}}
{{- define "portolan.image" -}}
{{ with .Values.image.registry }}{{ . }}/{{ end }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "portolan.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: portolan
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "portolan.check" -}}
{{- if ne .Release.Namespace "portolan-system" }}{{ fail "Portolan lives in the namespace portolan-system: install it with --namespace portolan-system" }}{{ end }}
{{- if not .Values.lbDomain }}{{ fail "lbDomain is required: the domain below which generated names lie, such as lb.example.net" }}{{ end }}
{{- with .Values.proxy }}
{{- if ge (int .drainDelaySeconds) (int .terminationGracePeriodSeconds) }}{{ fail "proxy.drainDelaySeconds must be less than proxy.terminationGracePeriodSeconds: a replica would be killed before it drains" }}{{ end }}
{{- end }}
{{- range $field, $value := dict "lbDomain" "lbDomain" "listeners" "proxySettings.listeners" }}
{{- if hasKey $.Values.proxySettings.spec $field }}{{ fail (printf "proxySettings.spec.%s: set %s instead" $field $value) }}{{ end }}
{{- end }}
{{- $seen := list }}
{{- range .Values.proxySettings.listeners }}
{{- $port := int .port }}
{{- if or (has .name $seen) (has $port $seen) }}{{ fail (printf "proxySettings.listeners: %s, port %d: another listener has that name or that port" .name $port) }}{{ end }}
{{- if or (eq $port 9901) (eq $port 9902) (eq .name "metrics") }}{{ fail (printf "proxySettings.listeners: %s, port %d: the name metrics and the ports 9901 and 9902 are the proxy's own" .name $port) }}{{ end }}
{{- $seen = append (append $seen .name) $port }}
{{- end }}
{{- end }}

{{- define "portolan.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}
