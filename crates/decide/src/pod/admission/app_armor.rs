//! Whether the AppArmor profiles that a pod asks for can be enforced here.
//!
//! In:    the pod's fields and its annotations from before there were fields; what the host has
//! Out:   the rejection
//! Calls: `admission`
//! Holds: a pod that asks for confinement never runs without it
//! Upstream: pkg/security/apparmor/{validate,helpers}.go, pkg/kubelet/lifecycle/handlers.go (appArmorAdmitHandler); 1.36;
//!           differences: of several annotations any that confines counts, there one of them

use k8s_openapi::api::core::v1::AppArmorProfile;
use kubelet_model::pod::Pod;

use super::Rejection;
use crate::container::downward::quoted;
use crate::container::security::{APPARMOR_ANNOTATION, asked_apparmor};

/// Whether the host confines with AppArmor; looked at once, at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppArmor {
    /// The kernel module is on.
    Enabled,
    /// It is not.
    Absent,
}

/// `None` when nothing is asked for, or it can be had.
pub(super) fn rejection(pod: &Pod, host: AppArmor) -> Option<Rejection> {
    if !is_required(pod) {
        return None;
    }
    let why = match host {
        AppArmor::Absent => Some("AppArmor is not enabled on the host".to_owned()),
        AppArmor::Enabled => empty_name(pod),
    };
    let message = format!("Cannot enforce AppArmor: {}", why?);
    Some(Rejection::new("AppArmor", message))
}

/// Whether anything but `Unconfined` is asked for anywhere.
fn is_required(pod: &Pod) -> bool {
    let confines = |profile: &AppArmorProfile| profile.type_ != "Unconfined";
    let of_pod = pod.spec().security_context.as_ref();
    let of_pod = of_pod.and_then(|context| context.app_armor_profile.as_ref());
    let of_containers = pod.all_containers().filter_map(|container| {
        container
            .security_context
            .as_ref()?
            .app_armor_profile
            .as_ref()
    });
    let mut annotations = pod.object.metadata.annotations.iter().flatten();
    of_pod.into_iter().chain(of_containers).any(confines)
        || annotations
            .any(|(key, word)| key.starts_with(APPARMOR_ANNOTATION) && word != "unconfined")
}

fn empty_name(pod: &Pod) -> Option<String> {
    pod.all_containers().find_map(|container| {
        let asked = asked_apparmor(pod, container).filter(|asked| asked.type_ == "Localhost")?;
        let name = asked.localhost_profile.as_deref();
        if name.is_some_and(|name| !name.trim().is_empty()) {
            return None;
        }
        let name = name.map_or("nil".to_owned(), |name| format!("*{name}"));
        let shown = format!("&AppArmorProfile{{Type:Localhost,LocalhostProfile:{name},}}");
        Some(format!(
            "invalid empty AppArmor profile name: {}",
            quoted(&shown)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    const NONE: &str = "Cannot enforce AppArmor: AppArmor is not enabled on the host";

    fn pod_with(annotation: &str, of_pod: &str, of_container: &str) -> Pod {
        let field = |text: &str| match text {
            "" => String::new(),
            text => format!("securityContext: {{appArmorProfile: {{{text}}}}}, "),
        };
        let annotations = match annotation {
            "" => String::new(),
            word => {
                format!("metadata: {{annotations: {{\"{APPARMOR_ANNOTATION}c\": \"{word}\"}}}}, ")
            }
        };
        pod(&format!(
            "{{{annotations}spec: {{{}containers: [{{{}name: c, image: i}}]}}}}",
            field(of_pod),
            field(of_container)
        ))
    }

    #[test]
    fn confinement_is_refused_where_it_can_not_be_enforced() {
        let rows = [
            ("", "", "", None),
            ("unconfined", "", "", None),
            ("", "type: Unconfined", "type: Unconfined", None),
            ("runtime/default", "", "", Some(NONE)),
            ("localhost/x", "", "", Some(NONE)),
            ("nonsense", "", "", Some(NONE)),
            ("", "type: RuntimeDefault", "type: Unconfined", Some(NONE)),
            ("", "", "type: RuntimeDefault", Some(NONE)),
            (
                "unconfined",
                "",
                "type: Localhost, localhostProfile: x",
                Some(NONE),
            ),
        ];
        for (annotation, of_pod, of_container, expected) in rows {
            let pod = pod_with(annotation, of_pod, of_container);
            let found = rejection(&pod, AppArmor::Absent);
            let text = found.map(|found| {
                assert_eq!(found.reason, "AppArmor");
                found.message
            });
            let row = (annotation, of_pod, of_container);
            assert_eq!(text.as_deref(), expected, "{row:?}");
            assert_eq!(rejection(&pod, AppArmor::Enabled), None, "{row:?}");
        }
    }

    #[test]
    fn a_profile_without_a_name_is_refused() {
        let shown = |profile: &str| {
            let profile = format!("&AppArmorProfile{{Type:Localhost,LocalhostProfile:{profile},}}");
            format!("Cannot enforce AppArmor: invalid empty AppArmor profile name: \"{profile}\"")
        };
        let rows = [
            ("localhost/", "", shown("*")),
            ("", "type: Localhost", shown("nil")),
            ("", "type: Localhost, localhostProfile: ' '", shown("* ")),
        ];
        for (annotation, of_pod, expected) in rows {
            let found = rejection(&pod_with(annotation, of_pod, ""), AppArmor::Enabled);
            assert_eq!(found.map(|found| found.message), Some(expected));
        }
    }
}
