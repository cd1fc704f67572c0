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
{{- $namespace := default .Release.Namespace .Values.worker.kubernetes.namespace -}}
{{- if and (eq $namespace .Release.Namespace) (not .Values.worker.kubernetes.allowReleaseNamespace) -}}
{{- fail (printf "Name another namespace in worker.kubernetes.namespace (worker.kubernetes.createNamespace=true creates it): in %s, the release's own, pods of steps run beside the platform's Secret and accounts. worker.kubernetes.allowReleaseNamespace=true allows it." $namespace) -}}
{{- end -}}
{{- $namespace -}}
{{- end -}}

{{- define "stroem.serverUrl" -}}
http://{{ include "stroem.fullname" . }}-server.{{ .Release.Namespace }}.svc:{{ .Values.server.service.port }}
{{- end -}}

{{/* A Secret in `secretEnv`; without one, what is missing is named. */}}
{{- define "stroem.secretData" -}}
{{- range $name := list "STROEM__DB__URL" "STROEM__BROKER__URL" "STROEM_KEYS" -}}
{{- if not (index $.Values.secretEnv $name) -}}
{{- fail (printf "Name a Secret in existingSecret, or give %s in secretEnv: there is no default." $name) -}}
{{- end -}}
{{- end -}}
type: Opaque
stringData:
  {{- range $name, $value := .Values.secretEnv }}
  {{ $name }}: {{ $value | quote }}
  {{- end }}
{{- end -}}

{{- define "stroem.serverConfigData" -}}
data:
  server-config.yaml: |
    {{- toYaml .Values.server.config | nindent 4 }}
{{- end -}}

{{/* Metadata of a workload's pods. Call with (list . "server" .Values.server); a fourth item is hashed. */}}
{{- define "stroem.podMetadata" -}}
{{- $workload := index . 2 -}}
labels:
  {{- include "stroem.selector" (list (first .) (index . 1)) | nindent 2 }}
  {{- with $workload.podLabels }}{{ toYaml . | nindent 2 }}{{ end }}
annotations:
  {{- if gt (len .) 3 }}
  checksum/config: {{ index . 3 | sha256sum }}
  {{- end }}
  {{- with $workload.podAnnotations }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end -}}

{{/* Where a workload's pods run, and as whom. Call with (list . .Values.server). */}}
{{- define "stroem.podSettings" -}}
{{- $values := (first .).Values -}}
securityContext: {{- toYaml $values.podSecurityContext | nindent 2 }}
{{- with $values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with (last .).priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" }}
{{- with index (last $) $key }}
{{ $key }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* An exec probe: whether the process touched this file lately. Call with (list "alive" 60). */}}
{{- define "stroem.touched" -}}
exec: { command: [sh, -c, "find $STROEM_HEALTH_DIR/{{ first . }} -newermt '{{ last . }} seconds ago' | grep -q ."] }
timeoutSeconds: 5
{{- end -}}

{{/*
Seconds in which a worker's steps may end. The rest of the pod's grace is for stopping those that did not,
and for what their jobs set off when the worker leaves.
*/}}
{{- define "stroem.drainSecs" -}}
{{- $grace := int .Values.worker.terminationGracePeriodSeconds -}}
{{- $most := max (sub $grace 30) (div $grace 2) -}}
{{- $given := hasKey .Values.worker.config "drain_secs" | ternary .Values.worker.config.drain_secs $most -}}
{{- if gt (float64 $given) (float64 $most) -}}
{{- fail (printf "worker.config.drain_secs is %v, but worker.terminationGracePeriodSeconds (%d) leaves %d: raise it." $given $grace $most) -}}
{{- end -}}
{{- $given -}}
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
{{- $tags := $config.tags | default (.Values.worker.kubernetes.enabled | ternary list (list "script")) -}}
{{- $_ := set $config "server_url" (include "stroem.serverUrl" .) -}}
{{- $_ := set $config "workspace_cache_dir" "/var/lib/stroem/cache" -}}
{{- $_ := set $config "drain_secs" (include "stroem.drainSecs" . | float64) -}}
{{- if .Values.runner.image.repository -}}
{{- $_ := set $config "runner_image" (printf "%s:%s" .Values.runner.image.repository (default (include "stroem.tag" .) .Values.runner.image.tag)) -}}
{{- end -}}
{{- if .Values.worker.kubernetes.enabled -}}
{{- $section := deepCopy (default dict $config.kubernetes) -}}
{{- $_ := set $section "namespace" (include "stroem.podNamespace" .) -}}
{{- if and .Values.imagePullSecrets (not $section.image_pull_secrets) -}}
{{- $names := list -}}
{{- range .Values.imagePullSecrets }}{{ $names = append $names .name }}{{ end -}}
{{- $_ := set $section "image_pull_secrets" $names -}}
{{- end -}}
{{- with .Values.worker.kubernetes.initImage }}{{ $_ := set $section "init_image" . }}{{ end -}}
{{- with .Values.worker.kubernetes.manifest }}{{ $_ := set $section "manifest" . }}{{ end -}}
{{- with .Values.worker.kubernetes.volumes }}{{ $_ := set $section "volumes" . }}{{ end -}}
{{- with .Values.worker.kubernetes.keepFailedSecs }}{{ $_ := set $section "keep_failed_s" (float64 .) }}{{ end -}}
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
