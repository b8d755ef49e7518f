//! Resolver settings of a pod.
//!
//! In:    a pod's `dnsPolicy` and `dnsConfig`, the node's and the cluster's DNS settings
//! Out:   `DnsConfig` for the sandbox, and what to tell people about it in events
//! Calls: sandbox_config.rs; whoever emits the events; whoever reads the node's resolv.conf
//! Holds: options keep the order in which they were first written
//! Upstream: pkg/kubelet/network/dns/dns.go; differences: upstream's order of options is random

use k8s_openapi::api::core::v1;
use kubelet_api::runtime::v1::DnsConfig;
use kubelet_model::node::{DnsView, HostResolver};
use kubelet_model::pod::Pod;

use crate::container::config_problem::pod_text;

#[cfg(test)]
mod tests;

const MOST_SERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;
const MOST_SEARCH_CHARS: usize = 2048;
/// Longer search paths abort some resolvers.
const LONGEST_SEARCH: usize = 253;

/// The node's resolv.conf cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolvConfError {
    /// A `nameserver` line names none.
    #[error("Encountered error while parsing resolv conf file. Error: nameserver list is empty ")]
    EmptyNameserver,
}

/// Something about a pod's DNS that is worth a warning event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsProblem {
    /// The event's reason.
    pub reason: &'static str,
    /// Its text, at the pod.
    pub message: String,
    /// Text of a second event, at the node.
    pub node_message: Option<String>,
}

enum Base {
    Cluster,
    Host,
    Nothing,
}

/// Parses a resolv.conf: `nameserver` lines add up, the last `search` wins, options replace those of the same name.
pub fn parse_resolv_conf(text: &str) -> Result<HostResolver, ResolvConfError> {
    let mut resolver = HostResolver::default();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        match fields.next() {
            Some("nameserver") => {
                resolver.servers.push(
                    fields
                        .next()
                        .ok_or(ResolvConfError::EmptyNameserver)?
                        .to_owned(),
                );
            }
            Some("search") => {
                let names = fields.filter(|name| *name != ".");
                resolver.searches = names
                    .map(|name| name.strip_suffix('.').unwrap_or(name).to_owned())
                    .collect();
            }
            Some("options") => {
                for option in fields {
                    set_option(&mut resolver.options, option.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(resolver)
}

fn option_name(option: &str) -> &str {
    option.split_once(':').map_or(option, |(name, _)| name)
}

fn set_option(options: &mut Vec<String>, option: String) {
    match options
        .iter_mut()
        .find(|present| option_name(present) == option_name(&option))
    {
        Some(present) => *present = option,
        None => options.push(option),
    }
}

fn without_duplicates(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut unique = Vec::new();
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

fn base(pod: &Pod) -> Base {
    match pod.spec().dns_policy.as_deref() {
        Some("None") => Base::Nothing,
        Some("Default") => Base::Host,
        Some("ClusterFirst") if pod.is_host_network() => Base::Host,
        _ => Base::Cluster,
    }
}

/// Resolver settings of a pod, and what was left out or replaced.
pub fn pod_dns(pod: &Pod, dns: &DnsView) -> (DnsConfig, Vec<DnsProblem>) {
    let mut problems = Vec::new();
    let mut config = match base(pod) {
        Base::Nothing => DnsConfig::default(),
        Base::Host => host_config(dns),
        Base::Cluster if dns.cluster_servers.is_empty() => {
            problems.push(missing_cluster_dns(pod));
            host_config(dns)
        }
        Base::Cluster => cluster_config(pod, dns),
    };
    if let Some(own) = &pod.spec().dns_config {
        merge(&mut config, own);
    }
    fit_limits(&mut config, &mut problems);
    (config, problems)
}

fn host_config(dns: &DnsView) -> DnsConfig {
    let Some(host) = dns.host.clone() else {
        // Without settings of the node a pod must not fall back to the image's: it asks its own loopback, of each family.
        let loopback = |ip: &String| if ip.contains(':') { "::1" } else { "127.0.0.1" };
        let given = dns.given_node_ips.iter();
        let mut servers: Vec<String> = given.map(|ip| loopback(ip).to_owned()).collect();
        if servers.is_empty() {
            servers.push("127.0.0.1".to_owned());
        }
        return DnsConfig {
            servers,
            searches: vec![".".to_owned()],
            options: Vec::new(),
        };
    };
    DnsConfig {
        servers: host.servers,
        searches: host.searches,
        options: host.options,
    }
}

fn cluster_config(pod: &Pod, dns: &DnsView) -> DnsConfig {
    let host_searches = dns
        .host
        .as_ref()
        .map(|host| host.searches.clone())
        .unwrap_or_default();
    let domain = &dns.cluster_domain;
    let searches = if domain.is_empty() {
        host_searches
    } else {
        let own = [
            format!("{}.svc.{domain}", pod.full_name.namespace),
            format!("svc.{domain}"),
            domain.clone(),
        ];
        without_duplicates(own.into_iter().chain(host_searches))
    };
    DnsConfig {
        servers: dns.cluster_servers.clone(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

fn missing_cluster_dns(pod: &Pod) -> DnsProblem {
    let what = "kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. \
                Falling back to \"Default\" policy.";
    DnsProblem {
        reason: "MissingClusterDNS",
        message: format!("pod: \"{}\". {what}", pod_text(pod)),
        node_message: Some(what.to_owned()),
    }
}

fn merge(config: &mut DnsConfig, own: &v1::PodDNSConfig) {
    let servers = std::mem::take(&mut config.servers).into_iter();
    config.servers = without_duplicates(servers.chain(own.nameservers.iter().flatten().cloned()));
    let searches = std::mem::take(&mut config.searches).into_iter();
    config.searches = without_duplicates(searches.chain(own.searches.iter().flatten().cloned()));
    for option in own.options.iter().flatten() {
        let name = option.name.clone().unwrap_or_default();
        let text = match option.value.as_deref() {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name,
        };
        set_option(&mut config.options, text);
    }
}

fn fit_limits(config: &mut DnsConfig, problems: &mut Vec<DnsProblem>) {
    let mut report = |message| {
        problems.push(DnsProblem {
            reason: "DNSConfigForming",
            message,
            node_message: None,
        })
    };
    if config.servers.len() > MOST_SERVERS {
        config.servers.truncate(MOST_SERVERS);
        report(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            config.servers.join(" ")
        ));
    }
    let asked = config.searches.len();
    let searches = &mut config.searches;
    searches.truncate(MOST_SEARCHES);
    searches.retain(|search| search.len() <= LONGEST_SEARCH);
    while searches.join(" ").len() > MOST_SEARCH_CHARS {
        searches.pop();
    }
    if searches.len() < asked {
        report(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            searches.join(" ")
        ));
    }
}
