//! A pod's host name, and the `/etc/hosts` that its containers share.
//!
//! In:    pod spec, the pod's addresses, the cluster's domain, for host-network pods the node's own file
//! Out:   host name and domain; the file's exact text
//! Calls: sandbox_config.rs for the name; whoever writes `ROOT/pods/<uid>/etc-hosts` (0644): for a pod on the node's network
//!        header, the node's file and `node_hosts_extra`
//! Holds: the same input gives the same bytes; people diff these files
//! Upstream: pkg/kubelet/kubelet_pods.go (GeneratePodHostNameAndDomain, managedHostsFileContent),
//!           pkg/kubelet/util/util_linux.go (GetNodenameForKernel)

use k8s_openapi::api::core::v1;
use kubelet_model::pod::Pod;

use crate::container::config_problem::ConfigProblem;

#[cfg(test)]
mod tests;

/// Longest host name; the kernel's field has one byte more for the end.
const LONGEST_HOSTNAME: usize = 63;
/// Longest DNS subdomain.
const LONGEST_SUBDOMAIN: usize = 253;
/// Longest host name with its domain.
const LONGEST_FQDN: usize = 64;
/// Where containers see the file.
pub const HOSTS_PATH: &str = "/etc/hosts";

/// What a pod is called on the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodHostname {
    /// The short name.
    pub hostname: String,
    /// The domain; empty for a pod without `subdomain`.
    pub domain: String,
}

/// The pod's host name: `hostnameOverride`, else `hostname`, else the pod's name, cut to what the kernel takes.
pub fn pod_hostname(pod: &Pod, cluster_domain: &str) -> Result<PodHostname, ConfigProblem> {
    let spec = pod.spec();
    let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let refuse = |field: &str, name: &str, what: &str, complaints: String| match complaints.as_str()
    {
        "" => Ok(()),
        _ => Err(ConfigProblem::container(format!(
            "pod {field} \"{name}\" is not a valid DNS {what}: {complaints}"
        ))),
    };
    if let Some(hostname) = &spec.hostname_override {
        refuse(
            "HostnameOverride",
            hostname,
            "subdomain",
            subdomain_complaints(hostname),
        )?;
        return Ok(PodHostname {
            hostname: shortened(pod, hostname)?,
            domain: String::new(),
        });
    }
    let hostname = match given(&spec.hostname) {
        Some(hostname) => {
            refuse("Hostname", &hostname, "label", label_complaints(&hostname))?;
            hostname
        }
        None => pod.full_name.name.to_string(),
    };
    let domain = match given(&spec.subdomain) {
        Some(subdomain) => {
            refuse(
                "Subdomain",
                &subdomain,
                "label",
                label_complaints(&subdomain),
            )?;
            format!(
                "{subdomain}.{}.svc.{cluster_domain}",
                pod.full_name.namespace
            )
        }
        None => String::new(),
    };
    Ok(PodHostname {
        hostname: shortened(pod, &hostname)?,
        domain,
    })
}

/// The name the kernel shows inside the pod: short, or with the domain when `setHostnameAsFQDN` asks for it.
pub fn kernel_hostname(
    name: &PodHostname,
    set_hostname_as_fqdn: Option<bool>,
) -> Result<String, ConfigProblem> {
    if name.domain.is_empty() || set_hostname_as_fqdn != Some(true) {
        return Ok(name.hostname.clone());
    }
    let fqdn = format!("{}.{}", name.hostname, name.domain);
    if fqdn.len() > LONGEST_FQDN {
        return Err(ConfigProblem::container(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long \
             ({LONGEST_FQDN} characters is the max, {} characters requested)",
            fqdn.len()
        )));
    }
    Ok(fqdn)
}

fn shortened(pod: &Pod, hostname: &str) -> Result<String, ConfigProblem> {
    if hostname.len() <= LONGEST_HOSTNAME {
        return Ok(hostname.to_owned());
    }
    let end = hostname
        .char_indices()
        .map(|(at, _)| at)
        .take_while(|at| *at <= LONGEST_HOSTNAME)
        .last()
        .unwrap_or(0);
    let (head, _) = hostname.split_at(end);
    let head = head.trim_end_matches(['-', '.']);
    if head.is_empty() {
        let name = &pod.full_name.name;
        return Err(ConfigProblem::container(format!(
            "hostname for pod \"{name}\" was invalid: \"{hostname}\""
        )));
    }
    Ok(head.to_owned())
}

fn is_label(text: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(is_alphanumeric)
        && text.ends_with(is_alphanumeric)
        && text.chars().all(|c| is_alphanumeric(c) || c == '-')
}

fn too_long(name: &str, most: usize) -> Option<String> {
    (name.len() > most).then(|| format!("must be no more than {most} characters"))
}

/// What is wrong with a DNS label; empty when nothing is.
fn label_complaints(name: &str) -> String {
    let shape = match is_label(name) {
        true => None,
        false if name.split('.').all(is_label) => Some("must not contain dots"),
        false => Some(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
             with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ),
    };
    let length = too_long(name, LONGEST_HOSTNAME);
    length
        .into_iter()
        .chain(shape.map(str::to_owned))
        .collect::<Vec<_>>()
        .join(";")
}

/// What is wrong with a DNS subdomain; empty when nothing is.
fn subdomain_complaints(name: &str) -> String {
    let shape = (!name.split('.').all(is_label)).then_some(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
         and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
    );
    let length = too_long(name, LONGEST_SUBDOMAIN);
    length
        .into_iter()
        .chain(shape.map(str::to_owned))
        .collect::<Vec<_>>()
        .join(";")
}

/// Whether the kubelet's hosts file is mounted: the pod has an address, and the container mounts nothing there itself.
pub fn mounts_hosts_file(pod: &Pod, container: &v1::Container, pod_ips: &[String]) -> bool {
    let mut own_mounts = container.volume_mounts.iter().flatten();
    (!pod_ips.is_empty() || pod.is_host_network())
        && !own_mounts.any(|mount| mount.mount_path == HOSTS_PATH)
}

/// First line of the file of a pod on the node's network, before the node's own text.
pub const NODE_HOSTS_HEADER: &str = "# Kubernetes-managed hosts file (host network).\n";

/// The hosts file of a pod with its own network: loopbacks, a line for each address, then `hostAliases`.
pub fn hosts_file_content(pod: &Pod, ips: &[String], name: &PodHostname) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let PodHostname { hostname, domain } = name;
    for ip in ips {
        if domain.is_empty() {
            text.push_str(&format!("{ip}\t{hostname}\n"));
        } else {
            text.push_str(&format!("{ip}\t{hostname}.{domain}\t{hostname}\n"));
        }
    }
    text.push_str(&node_hosts_extra(pod));
    text
}

/// What follows the node's own text in the file of a pod on its network: `hostAliases`, or nothing.
pub fn node_hosts_extra(pod: &Pod) -> String {
    let aliases = pod.spec().host_aliases.as_deref().unwrap_or_default();
    if aliases.is_empty() {
        return String::new();
    }
    let line = |alias: &v1::HostAlias| {
        let names = alias.hostnames.as_deref().unwrap_or_default();
        format!("{}\t{}\n", alias.ip, names.join("\t"))
    };
    let lines: String = aliases.iter().map(line).collect();
    format!("\n# Entries added by HostAliases.\n{lines}")
}
