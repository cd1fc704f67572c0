{{- define "stroem.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "stroem.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "stroem.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "stroem.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "stroem.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "stroem.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Call with (list . "server"). */}}
{{- define "stroem.selector" -}}
app.kubernetes.io/name: {{ include "stroem.name" (first .) }}
app.kubernetes.io/instance: {{ (first .).Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end -}}

{{- define "stroem.secretName" -}}
{{- default (include "stroem.fullname" .) .Values.existingSecret -}}
{{- end -}}

{{- define "stroem.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "stroem.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "stroem.tag" -}}
{{- default .Chart.AppVersion .Values.imageTag -}}
{{- end -}}

{{- define "stroem.podNamespace" -}}
{{- default .Release.Namespace .Values.worker.kubernetes.namespace -}}
{{- end -}}

{{- define "stroem.serverUrl" -}}
http://{{ include "stroem.fullname" . }}-server.{{ .Release.Namespace }}.svc:{{ .Values.server.service.port }}
{{- end -}}

{{/* Environment shared by server, scheduler and migration. */}}
{{- define "stroem.controlEnv" -}}
- { name: STROEM_CONFIG, value: /etc/stroem/server-config.yaml }
- { name: STROEM__LISTEN, value: "0.0.0.0:8080" }
- { name: STROEM_LOG_LEVEL, value: {{ .Values.server.logLevel | quote }} }
{{- with .Values.server.baseUrl }}
- { name: STROEM__AUTH__BASE_URL, value: {{ . | quote }} }
{{- end }}
- { name: STROEM__ALLOWED_HOSTS, value: {{ printf "%s-server,%s-server.%s.svc" (include "stroem.fullname" .) (include "stroem.fullname" .) .Release.Namespace | quote }} }
{{- end -}}

{{/* The worker's settings: worker.config plus the sections and tags that the switches add. */}}
{{- define "stroem.workerConfig" -}}
{{- $config := deepCopy .Values.worker.config -}}
{{- $tags := $config.tags | default list -}}
{{- $_ := set $config "server_url" (include "stroem.serverUrl" .) -}}
{{- $_ := set $config "workspace_cache_dir" "/var/lib/stroem/cache" -}}
{{- if .Values.runner.image.repository -}}
{{- $_ := set $config "runner_image" (printf "%s:%s" .Values.runner.image.repository (default (include "stroem.tag" .) .Values.runner.image.tag)) -}}
{{- end -}}
{{- if .Values.worker.kubernetes.enabled -}}
{{- $section := deepCopy (default dict $config.kubernetes) -}}
{{- $_ := set $section "namespace" (include "stroem.podNamespace" .) -}}
{{- with .Values.worker.kubernetes.initImage }}{{ $_ := set $section "init_image" . }}{{ end -}}
{{- if or .Values.startupScript .Values.runner.startupScript -}}
{{- $_ := set $section "runner_startup_configmap" (printf "%s-runner-startup" (include "stroem.fullname" .)) -}}
{{- end -}}
{{- $_ := set $config "kubernetes" $section -}}
{{- $tags = append $tags "kubernetes" -}}
{{- end -}}
{{- if .Values.worker.dind.enabled -}}
{{- $section := deepCopy (default dict $config.docker) -}}
{{- $_ := set $section "host" "tcp://127.0.0.1:2376" -}}
{{- $_ := set $config "docker" $section -}}
{{- $tags = append $tags "docker" -}}
{{- end -}}
{{- $_ := set $config "tags" (uniq $tags) -}}
{{- toYaml $config -}}
{{- end -}}
