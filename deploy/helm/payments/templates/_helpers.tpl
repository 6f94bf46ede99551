{{- define "payments.fullname" -}}
{{- .Values.fullnameOverride | default (ternary .Release.Name (printf "%s-payments" .Release.Name) (contains "payments" .Release.Name)) | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "payments.labels" -}}
app.kubernetes.io/name: payments
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "payments.selector" -}}
app.kubernetes.io/name: payments
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "payments.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The files that a process with these roles uses, as JSON: settings by the server that they are for. */}}
{{- define "payments.files" -}}
{{- $roles := .roles -}}
{{- $used := dict -}}
{{- range $name, $file := .files -}}
{{- if or
    (regexMatch "^(DATABASE|HTTP|ADMIN|OTEL)_" $name)
    (and (hasPrefix "GRPC_" $name) (has "grpc" $roles))
    (and (hasPrefix "REDIS_" $name) (has "consumer" $roles))
    (and (hasPrefix "KAFKA_" $name) (or (has "consumer" $roles) (has "relay" $roles))) -}}
{{- $_ := set $used $name $file -}}
{{- end -}}
{{- end -}}
{{- toJson $used -}}
{{- end -}}

{{/* The folder of a Secret or ConfigMap in a container. */}}
{{- define "payments.folder" -}}
/run/secrets/{{ with .secret }}{{ . }}{{ else }}{{ .configMap }}{{ end }}
{{- end -}}

{{/* Items of `env`, each on lines of its own, which begin with a line break. */}}
{{- define "payments.filesEnv" -}}
{{- range $name, $file := . }}
- name: {{ $name }}
  value: {{ include "payments.folder" $file }}/{{ $file.key }}
{{- end }}
{{- end -}}

{{/* Each Secret and ConfigMap once, by the folder that it is mounted at. */}}
{{- define "payments.sources" -}}
{{- $sources := dict -}}
{{- range $name, $file := . -}}
{{- $_ := set $sources (include "payments.folder" $file) (pick $file "secret" "configMap") -}}
{{- end -}}
{{- toJson $sources -}}
{{- end -}}

{{- define "payments.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- range $folder, $_ := include "payments.sources" . | fromJson }}
- name: {{ base $folder }}
  mountPath: {{ $folder }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "payments.volumes" -}}
# temporary files of `payments audit`
- name: tmp
  emptyDir:
    sizeLimit: 1Gi
{{- range $folder, $source := include "payments.sources" . | fromJson }}
- name: {{ base $folder }}
{{- if $source.secret }}
  secret:
    secretName: {{ $source.secret }}
    defaultMode: 0440
{{- else }}
  configMap:
    name: {{ $source.configMap }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "payments.settings" -}}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- if .Values.insecure }}
- name: INSECURE
  value: "true"
{{- end }}
{{- end -}}

{{/* Of a pod: no root, no token, and no variables for other Services (KAFKA_PORT would look like a setting). */}}
{{- define "payments.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  # reads the files of Secrets
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "payments.container" -}}
image: {{ include "payments.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* A server that other machines reach needs TLS, or the consent of the operator: the process would refuse to start. */}}
{{- define "payments.check" -}}
{{- if not .Values.insecure -}}
{{- $needed := list "HTTP_TLS_CERT" "HTTP_TLS_KEY" -}}
{{- range .Values.workloads -}}
{{- if and . (has "grpc" .roles) -}}
{{- $needed = concat $needed (list "GRPC_TLS_CERT" "GRPC_TLS_KEY") | uniq -}}
{{- end -}}
{{- end -}}
{{- $missing := list -}}
{{- range $needed -}}
{{- if not (hasKey $.Values.files .) -}}
{{- $missing = append $missing . -}}
{{- end -}}
{{- end -}}
{{- if $missing -}}
{{- fail (printf "files lacks %s: gRPC and operations HTTP need TLS beyond loopback. Name their Secrets in files, or set insecure: true if that is meant" (join ", " $missing)) -}}
{{- end -}}
{{- end -}}
{{- if not (or (hasKey .Values.files "DATABASE_URL_FILE") (hasKey .Values.settings "DATABASE_URL")) -}}
{{- fail "files lacks DATABASE_URL_FILE: name the Secret with the URL of PostgreSQL" -}}
{{- end -}}
{{- end -}}
