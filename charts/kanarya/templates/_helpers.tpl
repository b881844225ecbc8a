{{- define "kanarya.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "kanarya.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "kanarya.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "kanarya.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kanarya.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* managed-by is the release's: the label value `kanarya` is kept for objects that the operator itself writes. */}}
{{- define "kanarya.labels" -}}
{{ include "kanarya.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "kanarya.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "kanarya.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "kanarya.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- if .Values.image.digest -}}
{{- printf "%s:%s@%s" .Values.image.repository $tag .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{/* What the operator may do, in a ClusterRole or in one Role a namespace: verb by verb, no secrets, no writing of rollouts but status. */}}
{{- define "kanarya.rules" -}}
- apiGroups: [kanarya.dev]
  resources: [mlmodelrollouts]
  verbs: [get, list, watch]
- apiGroups: [kanarya.dev]
  resources: [mlmodelrollouts/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [get, patch]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get, list]
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, create, patch, update, delete]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* The operator's configuration: `allowCustomQueries`, and the values under `sources` without those that are empty or only the chart's. */}}
{{- define "kanarya.config" -}}
{{- $sources := dict -}}
{{- range $name, $source := .Values.sources -}}
{{- $given := dict -}}
{{- range $key, $value := omit $source "mount" -}}
{{- if $value -}}
{{- $_ := set $given $key $value -}}
{{- end -}}
{{- end -}}
{{- $_ := set $sources $name $given -}}
{{- end -}}
{{- dict "sources" $sources "allowCustomQueries" .Values.allowCustomQueries | toYaml -}}
{{- end -}}

{{/* Name of the volume of a source: at most 63 characters, as volumes have it. */}}
{{- define "kanarya.sourceVolume" -}}
{{- if gt (len .) 56 -}}
source-{{ trunc 39 . }}-{{ sha256sum . | trunc 16 }}
{{- else -}}
source-{{ . }}
{{- end -}}
{{- end -}}
