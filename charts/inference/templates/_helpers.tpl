{{/* The release, its Deployment, its Service and its rollout share one name, from which the operator makes others. */}}
{{- define "inference.name" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "The release name %q names a Service too: use lower-case letters, digits and dashes, and begin with a letter." .Release.Name) -}}
{{- end -}}
{{- if gt (len .Release.Name) 40 -}}
{{- fail (printf "The release name %q has more than 40 characters: names of other objects are made from it." .Release.Name) -}}
{{- end -}}
{{- .Release.Name -}}
{{- end -}}

{{/* Keys of the model Deployment's selector. The operator leaves exactly these out of stable's pods. */}}
{{- define "inference.modelSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: model
{{- end -}}

{{- define "inference.routerSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: router
{{- end -}}

{{/* For objects, never for the model's pod template: these change with the chart. */}}
{{- define "inference.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "inference.routerLabels" -}}
{{ include "inference.labels" . }}
app.kubernetes.io/component: router
{{- end -}}

{{- define "inference.version" -}}
{{- required "model.version is missing: say which version of the model to serve, for example --set model.version=v1.8.0" .Values.model.version -}}
{{- end -}}

{{- define "inference.image" -}}
{{- $tag := default .appVersion .image.tag -}}
{{- if .image.digest -}}
{{- printf "%s:%s@%s" .image.repository $tag .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository $tag -}}
{{- end -}}
{{- end -}}

{{/* The router's image: its own fields, else the model server's. A digest belongs to one repository and tag. */}}
{{- define "inference.routerImage" -}}
{{- $own := .Values.router.image -}}
{{- $server := .Values.image -}}
{{- $same := not (or $own.repository $own.tag $own.digest) -}}
{{- $image := dict "repository" (default $server.repository $own.repository) "tag" (default $server.tag $own.tag) "digest" (ternary $server.digest $own.digest $same) -}}
{{- include "inference.image" (dict "image" $image "appVersion" .Chart.AppVersion) -}}
{{- end -}}
