//! Every field of a pod's spec, and whether this kubelet honours it.
//!
//! In:    nothing
//! Out:   one table for each type of the API that is looked into
//! Calls: the walk in unbuilt.rs
//! Holds: a field moves from `Unbuilt` to `Built` in the change that builds it
//! Upstream: staging/src/k8s.io/api/core/v1/types.go (names of fields)

use super::Field::{self, Built, BuiltMap, Ignored, Into, OfApi, Unbuilt, UnbuiltIf};
use serde_json::Value;

type Table = &'static [(&'static str, Field)];

pub(super) const POD_SPEC: Table = &[
    ("activeDeadlineSeconds", Built),
    ("affinity", Ignored),
    ("automountServiceAccountToken", Ignored),
    ("containers", Into(CONTAINER)),
    ("dnsConfig", Into(DNS_CONFIG)),
    ("dnsPolicy", Built),
    ("enableServiceLinks", Built),
    ("ephemeralContainers", Into(EPHEMERAL)),
    ("hostAliases", Into(HOST_ALIAS)),
    ("hostIPC", Built),
    ("hostNetwork", Built),
    ("hostPID", Built),
    ("hostUsers", UnbuiltIf(is_false)),
    ("hostname", Built),
    ("hostnameOverride", Built),
    ("imagePullSecrets", OfApi),
    ("initContainers", Into(CONTAINER)),
    ("nodeName", Built),
    ("nodeSelector", Ignored),
    ("os", Into(POD_OS)),
    ("overhead", BuiltMap),
    ("preemptionPolicy", Ignored),
    ("priority", Built),
    ("priorityClassName", Built),
    ("readinessGates", Into(READINESS_GATE)),
    ("resourceClaims", Unbuilt),
    ("resources", UnbuiltIf(is_filled)),
    ("restartPolicy", Built),
    ("runtimeClassName", Built),
    ("schedulerName", Ignored),
    ("schedulingGates", Ignored),
    ("schedulingGroup", Ignored),
    ("securityContext", Into(POD_SECURITY)),
    ("serviceAccount", OfApi),
    ("serviceAccountName", OfApi),
    ("setHostnameAsFQDN", Built),
    ("shareProcessNamespace", Built),
    ("subdomain", Built),
    ("terminationGracePeriodSeconds", Built),
    ("tolerations", Into(TOLERATION)),
    ("topologySpreadConstraints", Ignored),
    ("volumes", Into(VOLUME)),
];

const POD_OS: Table = &[("name", Built)];

const READINESS_GATE: Table = &[("conditionType", Built)];

const DNS_CONFIG: Table = &[
    ("nameservers", Built),
    ("options", Into(DNS_OPTION)),
    ("searches", Built),
];

const DNS_OPTION: Table = &[("name", Built), ("value", Built)];

const HOST_ALIAS: Table = &[("hostnames", Built), ("ip", Built)];

const TOLERATION: Table = &[
    ("effect", Built),
    ("key", Built),
    ("operator", Built),
    ("tolerationSeconds", Built),
    ("value", Built),
];

const CONTAINER: Table = &[
    ("args", Built),
    ("command", Built),
    ("env", Into(ENV)),
    ("envFrom", Into(ENV_FROM)),
    ("image", Built),
    ("imagePullPolicy", Built),
    ("lifecycle", Into(LIFECYCLE)),
    ("livenessProbe", Into(PROBE)),
    ("name", Built),
    ("ports", Into(PORT)),
    ("readinessProbe", Into(PROBE)),
    ("resizePolicy", UnbuiltIf(restarts_on_resize)),
    ("resources", Into(RESOURCES)),
    ("restartPolicy", Built),
    ("restartPolicyRules", Into(RESTART_RULE)),
    ("securityContext", Into(SECURITY)),
    ("startupProbe", Into(PROBE)),
    ("stdin", Built),
    ("stdinOnce", Built),
    ("terminationMessagePath", Built),
    ("terminationMessagePolicy", Built),
    ("tty", Built),
    ("volumeDevices", Unbuilt),
    ("volumeMounts", Into(MOUNT)),
    ("workingDir", Built),
];

const EPHEMERAL: Table = &[
    ("args", Built),
    ("command", Built),
    ("env", Into(ENV)),
    ("envFrom", Into(ENV_FROM)),
    ("image", Built),
    ("imagePullPolicy", Built),
    ("lifecycle", Unbuilt),
    ("livenessProbe", Unbuilt),
    ("name", Built),
    ("ports", Unbuilt),
    ("readinessProbe", Unbuilt),
    ("resizePolicy", Unbuilt),
    ("resources", Into(RESOURCES)),
    ("restartPolicy", Unbuilt),
    ("restartPolicyRules", Unbuilt),
    ("securityContext", Into(SECURITY)),
    ("startupProbe", Unbuilt),
    ("stdin", Built),
    ("stdinOnce", Built),
    ("targetContainerName", Built),
    ("terminationMessagePath", Built),
    ("terminationMessagePolicy", Built),
    ("tty", Built),
    ("volumeDevices", Unbuilt),
    ("volumeMounts", Into(MOUNT)),
    ("workingDir", Built),
];

const EXEC: Table = &[("command", Built)];

const GRPC: Table = &[("port", Built), ("service", Built)];

const HTTP_GET: Table = &[
    ("host", Built),
    ("httpHeaders", Into(HTTP_HEADER)),
    ("path", Built),
    ("port", Built),
    ("scheme", Built),
];

const HTTP_HEADER: Table = &[("name", Built), ("value", Built)];

const TCP_SOCKET: Table = &[("host", Built), ("port", Built)];

const PROBE: Table = &[
    ("exec", Into(EXEC)),
    ("failureThreshold", Built),
    ("grpc", Into(GRPC)),
    ("httpGet", Into(HTTP_GET)),
    ("initialDelaySeconds", Built),
    ("periodSeconds", Built),
    ("successThreshold", Built),
    ("tcpSocket", Into(TCP_SOCKET)),
    ("terminationGracePeriodSeconds", Built),
    ("timeoutSeconds", Built),
];

const ENV: Table = &[
    ("name", Built),
    ("value", Built),
    ("valueFrom", Into(ENV_SOURCE)),
];

const ENV_SOURCE: Table = &[
    ("configMapKeyRef", OfApi),
    ("fieldRef", Into(FIELD_REF)),
    ("fileKeyRef", Into(FILE_REF)),
    ("resourceFieldRef", Into(RESOURCE_REF)),
    ("secretKeyRef", OfApi),
];

const ENV_FROM: Table = &[
    ("configMapRef", OfApi),
    ("prefix", Built),
    ("secretRef", OfApi),
];

const FIELD_REF: Table = &[("apiVersion", Built), ("fieldPath", Built)];

const FILE_REF: Table = &[
    ("key", Built),
    ("optional", Built),
    ("path", Built),
    ("volumeName", Built),
];

const RESOURCE_REF: Table = &[
    ("containerName", Built),
    ("divisor", Built),
    ("resource", Built),
];

const LIFECYCLE: Table = &[
    ("postStart", Into(HOOK)),
    ("preStop", Into(HOOK)),
    ("stopSignal", Built),
];

/// A hook over TCP is run as upstream runs it: it fails.
const HOOK: Table = &[
    ("exec", Into(EXEC)),
    ("httpGet", Into(HTTP_GET)),
    ("sleep", Into(SLEEP)),
    ("tcpSocket", Into(TCP_SOCKET)),
];

const SLEEP: Table = &[("seconds", Built)];

const RESTART_RULE: Table = &[("action", Built), ("exitCodes", Into(EXIT_CODES))];

const EXIT_CODES: Table = &[("operator", Built), ("values", Built)];

const PORT: Table = &[
    ("containerPort", Built),
    ("hostIP", Built),
    ("hostPort", Built),
    ("name", Built),
    ("protocol", Built),
];

const RESOURCES: Table = &[
    ("claims", Unbuilt),
    ("limits", UnbuiltIf(has_other_resources)),
    ("requests", UnbuiltIf(has_other_resources)),
];

const SECURITY: Table = &[
    ("allowPrivilegeEscalation", Built),
    ("appArmorProfile", Into(APP_ARMOR)),
    ("capabilities", Into(CAPABILITIES)),
    ("privileged", Built),
    ("procMount", UnbuiltIf(is_unmasked)),
    ("readOnlyRootFilesystem", Built),
    ("runAsGroup", Built),
    ("runAsNonRoot", Built),
    ("runAsUser", Built),
    ("seLinuxOptions", Into(SELINUX)),
    ("seccompProfile", Into(SECCOMP)),
    ("windowsOptions", Ignored),
];

const APP_ARMOR: Table = &[("localhostProfile", Built), ("type", Built)];

const SELINUX: Table = &[
    ("level", Built),
    ("role", Built),
    ("type", Built),
    ("user", Built),
];

const CAPABILITIES: Table = &[("add", Built), ("drop", Built)];

const SECCOMP: Table = &[("localhostProfile", Built), ("type", Built)];

const MOUNT: Table = &[
    ("mountPath", Built),
    ("mountPropagation", Built),
    ("name", Built),
    ("readOnly", Built),
    ("recursiveReadOnly", Built),
    ("subPath", Built),
    ("subPathExpr", Built),
];

const POD_SECURITY: Table = &[
    ("appArmorProfile", Into(APP_ARMOR)),
    ("fsGroup", Built),
    ("fsGroupChangePolicy", Built),
    ("runAsGroup", Built),
    ("runAsNonRoot", Built),
    ("runAsUser", Built),
    ("seLinuxChangePolicy", UnbuiltIf(is_mount_option)),
    ("seLinuxOptions", Into(SELINUX)),
    ("seccompProfile", Into(SECCOMP)),
    ("supplementalGroups", Built),
    ("supplementalGroupsPolicy", Built),
    ("sysctls", Into(SYSCTL)),
    ("windowsOptions", Ignored),
];

const SYSCTL: Table = &[("name", Built), ("value", Built)];

const VOLUME: Table = &[
    ("awsElasticBlockStore", Unbuilt),
    ("azureDisk", Unbuilt),
    ("azureFile", Unbuilt),
    ("cephfs", Unbuilt),
    ("cinder", Unbuilt),
    ("configMap", OfApi),
    ("csi", Unbuilt),
    ("downwardAPI", Into(DOWNWARD_API)),
    ("emptyDir", Into(EMPTY_DIR)),
    ("ephemeral", Unbuilt),
    ("fc", Unbuilt),
    ("flexVolume", Unbuilt),
    ("flocker", Unbuilt),
    ("gcePersistentDisk", Unbuilt),
    ("gitRepo", Unbuilt),
    ("glusterfs", Unbuilt),
    ("hostPath", Into(HOST_PATH)),
    ("image", Unbuilt),
    ("iscsi", Unbuilt),
    ("name", Built),
    ("nfs", Unbuilt),
    ("persistentVolumeClaim", Unbuilt),
    ("photonPersistentDisk", Unbuilt),
    ("portworxVolume", Unbuilt),
    ("projected", Into(PROJECTED)),
    ("quobyte", Unbuilt),
    ("rbd", Unbuilt),
    ("scaleIO", Unbuilt),
    ("secret", OfApi),
    ("storageos", Unbuilt),
    ("vsphereVolume", Unbuilt),
];

const EMPTY_DIR: Table = &[("medium", UnbuiltIf(is_other_medium)), ("sizeLimit", Built)];

const DOWNWARD_API: Table = &[("defaultMode", Built), ("items", Into(DOWNWARD_FILE))];

const DOWNWARD_FILE: Table = &[
    ("fieldRef", Into(FIELD_REF)),
    ("mode", Built),
    ("path", Built),
    ("resourceFieldRef", Into(RESOURCE_REF)),
];

const PROJECTED: Table = &[("defaultMode", Built), ("sources", Into(PROJECTION))];

const PROJECTION: Table = &[
    ("clusterTrustBundle", Unbuilt),
    ("configMap", OfApi),
    ("downwardAPI", Into(DOWNWARD_PROJECTION)),
    ("podCertificate", Unbuilt),
    ("secret", OfApi),
    ("serviceAccountToken", OfApi),
];

const DOWNWARD_PROJECTION: Table = &[("items", Into(DOWNWARD_FILE))];

const HOST_PATH: Table = &[("path", Built), ("type", Built)];

fn is_false(value: &Value) -> bool {
    value == false
}

fn is_filled(value: &Value) -> bool {
    value.as_object().is_none_or(|object| !object.is_empty())
}

fn is_unmasked(value: &Value) -> bool {
    value != "Default"
}

fn is_mount_option(value: &Value) -> bool {
    value != "Recursive"
}

fn is_other_medium(value: &Value) -> bool {
    value != "Memory"
}

fn restarts_on_resize(policies: &Value) -> bool {
    policies.as_array().is_none_or(|list| {
        list.iter().any(|policy| {
            policy
                .get("restartPolicy")
                .is_none_or(|kind| kind != "NotRequired")
        })
    })
}

fn has_other_resources(amounts: &Value) -> bool {
    amounts.as_object().is_none_or(|object| {
        object.keys().any(|name| {
            !matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
                && !name.starts_with("hugepages-")
        })
    })
}
