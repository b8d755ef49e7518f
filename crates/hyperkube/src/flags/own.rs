//! Flags that have no field in the configuration file, and flags that are accepted without effect.
//!
//! In:    –
//! Out:   one row per flag, sorted by name
//! Calls: `flags.rs`
//! Holds: a default is written as `--help` shows it; an empty one is Go's zero value
//! Upstream: cmd/kubelet/app/options/options.go (KubeletFlags), globalflags_linux.go, component-base/version/verflag

use super::{CADVISOR, EVICTION_INSTEAD, Effect, Flag, Kind, old, row};

#[rustfmt::skip]
pub(super) const ROWS: &[Flag] = &[
    old(row("application-metrics-count-limit", Kind::Int64, "100", Effect::Ignored, "Custom metrics per container"), CADVISOR),
    old(row("boot-id-file", Kind::Text, "\"/proc/sys/kernel/random/boot_id\"", Effect::Ignored, "Files that may hold the boot id"), CADVISOR),
    row("bootstrap-kubeconfig", Kind::Path, "", Effect::Flag("bootstrap_kubeconfig"), "How to ask for the first client certificate when --kubeconfig does not exist"),
    row("cert-dir", Kind::Path, "\"/var/lib/kubelet/pki\"", Effect::Flag("cert_dir"), "Directory of certificates"),
    row("cloud-provider", Kind::Text, "", Effect::Flag("cloud_provider"), "external, or empty for none"),
    row("config", Kind::Path, "", Effect::Flag("config"), "Configuration file; flags override it"),
    row("config-dir", Kind::Path, "", Effect::Flag("config_dir"), "Directory of drop-ins (*.conf, in lexical order) over the configuration file"),
    old(row("container-hints", Kind::Text, "\"/etc/cadvisor/container_hints.json\"", Effect::Ignored, "File of container hints"), CADVISOR),
    old(row("containerd", Kind::Text, "\"/run/containerd/containerd.sock\"", Effect::Ignored, "containerd socket"), CADVISOR),
    old(row("containerd-namespace", Kind::Text, "\"k8s.io\"", Effect::Ignored, "containerd namespace"), CADVISOR),
    old(row("enable-load-reader", Kind::Bool, "", Effect::Ignored, "Whether CPU load is read"), CADVISOR),
    old(row("event-storage-age-limit", Kind::Text, "\"default=0\"", Effect::Ignored, "How long events are kept"), CADVISOR),
    old(row("event-storage-event-limit", Kind::Text, "\"default=0\"", Effect::Ignored, "How many events are kept"), CADVISOR),
    row("exit-on-lock-contention", Kind::Bool, "", Effect::Flag("exit_on_lock_contention"), "Whether to end when somebody else wants the lock"),
    old(row("experimental-allocatable-ignore-eviction", Kind::Bool, "", Effect::Flag("experimental_allocatable_ignore_eviction"), "Whether hard eviction thresholds do not count into allocatable"), "will be removed in 1.25 or later."),
    old(row("experimental-mounter-path", Kind::Path, "", Effect::Flag("experimental_mounter_path"), "Program that mounts instead of the system's"), "will be removed in 1.25 or later. in favor of using CSI."),
    old(row("global-housekeeping-interval", Kind::Duration, "1m0s", Effect::Ignored, "Time between two looks at the machine"), CADVISOR),
    row("fast-first-probe", Kind::Bool, "", Effect::Flag("fast_first_probe"), "Whether startup and readiness probes are tried at short intervals until the first success, not by their period alone; a node without a cluster always does so"),
    row("help", Kind::Bool, "", Effect::Help, "Print this and end"),
    row("hostname-override", Kind::Text, "", Effect::Flag("hostname_override"), "The node's name instead of the host's"),
    row("housekeeping-interval", Kind::Duration, "10s", Effect::Ignored, "Time between two looks at a container"),
    row("image-credential-provider-bin-dir", Kind::Path, "", Effect::Flag("image_credential_provider_bin_dir"), "Directory of credential plugins"),
    row("image-credential-provider-config", Kind::Path, "", Effect::Flag("image_credential_provider_config"), "Configuration of credential plugins, a file or a directory"),
    row("kubeconfig", Kind::Path, "", Effect::Flag("kubeconfig"), "How to reach the API server; without it the node runs standalone"),
    row("lock-file", Kind::Path, "", Effect::Flag("lock_file"), "[Alpha] File that is locked while running"),
    old(row("log-cadvisor-usage", Kind::Bool, "", Effect::Ignored, "Whether own use is logged"), CADVISOR),
    old(row("machine-id-file", Kind::Text, "\"/etc/machine-id,/var/lib/dbus/machine-id\"", Effect::Ignored, "Files that may hold the machine id"), CADVISOR),
    row("max-housekeeping-interval", Kind::Duration, "15s", Effect::Ignored, "Longest time between two looks at a container"),
    old(row("maximum-dead-containers", Kind::Int32, "-1", Effect::Flag("maximum_dead_containers"), "Dead containers kept on the node; negative is no limit"), EVICTION_INSTEAD),
    old(row("maximum-dead-containers-per-container", Kind::Int32, "1", Effect::Flag("maximum_dead_containers_per_container"), "Dead containers kept per container name"), EVICTION_INSTEAD),
    old(row("minimum-container-ttl-duration", Kind::Duration, "", Effect::Flag("minimum_container_ttl"), "A dead container younger than this stays"), EVICTION_INSTEAD),
    row("node-ip", Kind::Text, "", Effect::Flag("node_ip"), "Address of the node, or two of both families with a comma between"),
    row("node-labels", Kind::LooseMap, "", Effect::Flag("node_labels"), "Labels of the node when it registers"),
    row("root-dir", Kind::Path, "\"/var/lib/kubelet\"", Effect::Flag("root_dir"), "Directory of everything that the kubelet keeps"),
    row("runtime-cgroups", Kind::Text, "", Effect::Flag("runtime_cgroups"), "Cgroup of the container runtime"),
    row("seccomp-default", Kind::Bool, "", Effect::Flag("seccomp_default"), "Whether pods get the RuntimeDefault seccomp profile unless they say otherwise"),
    old(row("storage-driver-buffer-duration", Kind::Duration, "1m0s", Effect::Ignored, "How long writes are buffered"), CADVISOR),
    old(row("storage-driver-db", Kind::Text, "\"cadvisor\"", Effect::Ignored, "Database name"), CADVISOR),
    old(row("storage-driver-host", Kind::Text, "\"localhost:8086\"", Effect::Ignored, "Database host"), CADVISOR),
    old(row("storage-driver-password", Kind::Text, "\"root\"", Effect::Ignored, "Database password"), CADVISOR),
    old(row("storage-driver-secure", Kind::Bool, "", Effect::Ignored, "Whether the database is reached securely"), CADVISOR),
    old(row("storage-driver-table", Kind::Text, "\"stats\"", Effect::Ignored, "Database table"), CADVISOR),
    old(row("storage-driver-user", Kind::Text, "\"root\"", Effect::Ignored, "Database user"), CADVISOR),
    row("version", Kind::Version, "", Effect::Version, "Print the version and end; raw prints it in parts"),
];
