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
{{- end }}

{{- define "portolan.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}
