//! Who a container runs as, and what it may do.

use super::*;
use crate::testing::{node, pod, pod_of};

fn checked(pod_context: &str, context: &str, uid: Option<i64>, name: &str) -> Result<(), String> {
    let pod = pod_of(&format!(
        "{{securityContext: {pod_context}, containers: [{{name: c, securityContext: {context}}}]}}"
    ));
    let image_user = ImageUser::of_image(uid, name);
    check_run_as_non_root(&pod, &pod.containers()[0], &image_user)
        .map_err(|problem| problem.message)
}

#[test]
fn root_is_refused_where_it_must_not_be() {
    const NON_ROOT: &str = "{runAsNonRoot: true}";
    let whose = "(pod: \"web_default(u1)\", container: c)";
    let root = Err(format!(
        "container has runAsNonRoot and image will run as root {whose}"
    ));
    assert_eq!(checked("{}", "{}", None, ""), Ok(()));
    assert_eq!(checked("{}", "{runAsNonRoot: false}", Some(0), ""), Ok(()));
    assert_eq!(checked("{}", NON_ROOT, Some(1), ""), Ok(()));
    assert_eq!(checked("{}", NON_ROOT, Some(0), ""), root);
    assert_eq!(checked("{}", NON_ROOT, None, ""), root);
    assert_eq!(checked(NON_ROOT, "{}", None, ""), root);
    assert_eq!(checked(NON_ROOT, "{runAsNonRoot: false}", None, ""), Ok(()));
    assert_eq!(
        checked("{runAsUser: 5, runAsNonRoot: true}", "{}", Some(0), ""),
        Ok(())
    );
    let breaks = format!("container's runAsUser breaks non-root policy {whose}");
    assert_eq!(
        checked(
            "{runAsUser: 5, runAsNonRoot: true}",
            "{runAsUser: 0}",
            Some(1),
            ""
        ),
        Err(breaks)
    );
    let named = format!(
        "container has runAsNonRoot and image has non-numeric user (nobody), cannot verify user is non-root {whose}"
    );
    assert_eq!(checked("{}", NON_ROOT, None, "nobody"), Err(named));
    let invalid = format!(
        "container has runAsNonRoot and image has an invalid user id (-1). (Must be 1-(2147483647)): must be between 0 and \
         2147483647, inclusive {whose}"
    );
    assert_eq!(checked("{}", NON_ROOT, Some(-1), ""), Err(invalid));
}

fn context(
    yaml: &str,
    node: &NodeView,
    image_user: &ImageUser,
) -> Result<LinuxContainerSecurityContext, String> {
    let pod = pod(yaml);
    container_security_context(&pod, &pod.containers()[0], node, image_user)
        .map_err(|problem| problem.message)
}

#[test]
fn users_of_images_count_only_where_no_number_is_asked_for() {
    let named = ImageUser::of_image(None, "nobody");
    let found = context("{spec: {containers: [{name: c}]}}", &node(), &named).unwrap();
    assert_eq!(
        (found.run_as_user, found.run_as_username.as_str()),
        (None, "nobody")
    );
    let asked = "{spec: {securityContext: {runAsUser: 4}, containers: [{name: c}]}}";
    let found = context(asked, &node(), &named).unwrap();
    assert_eq!(
        (found.run_as_user, found.run_as_username.as_str()),
        (Some(Int64Value { value: 4 }), "")
    );
}

#[test]
fn seccomp_comes_from_container_pod_or_default() {
    let mut with_default = node();
    with_default.seccomp_default = true;
    let local = "{type: Localhost, localhostProfile: a/../b.json}";
    for (of_pod, of_container, plain, defaulted) in [
        ("{}", "{}", "Unconfined", "RuntimeDefault"),
        (
            "{type: RuntimeDefault}",
            "{}",
            "RuntimeDefault",
            "RuntimeDefault",
        ),
        (
            "{type: RuntimeDefault}",
            "{type: Unconfined}",
            "Unconfined",
            "Unconfined",
        ),
        ("{type: Unconfined}", local, "Localhost", "Localhost"),
    ] {
        let field = |profile: &str| match profile {
            "{}" => "{}".to_owned(),
            profile => format!("{{seccompProfile: {profile}}}"),
        };
        let yaml = format!(
            "{{spec: {{securityContext: {}, containers: [{{name: c, securityContext: {}}}]}}}}",
            field(of_pod),
            field(of_container)
        );
        for (node, expected) in [(node(), plain), (with_default.clone(), defaulted)] {
            let profile = context(&yaml, &node, &ImageUser::default())
                .unwrap()
                .seccomp
                .unwrap();
            assert_eq!(profile.profile_type().as_str_name(), expected, "{yaml}");
            let path = if expected == "Localhost" {
                "/var/lib/kubelet/seccomp/b.json"
            } else {
                ""
            };
            assert_eq!(profile.localhost_ref, path);
        }
    }
    let missing =
        "{spec: {securityContext: {seccompProfile: {type: Localhost}}, containers: [{name: c}]}}";
    let problem = context(missing, &node(), &ImageUser::default()).unwrap_err();
    assert_eq!(
        problem,
        "localhostProfile must be set if seccompProfile type is Localhost."
    );
}

#[test]
fn apparmor_comes_from_container_annotation_or_pod() {
    const KEY: &str = "container.apparmor.security.beta.kubernetes.io/c";
    for (annotation, of_pod, of_container, expected) in [
        ("{}", "{}", "{}", None),
        (
            "{}",
            "{appArmorProfile: {type: Unconfined}}",
            "{}",
            Some(("Unconfined", "", "unconfined")),
        ),
        (
            "{KEY: runtime/default}",
            "{appArmorProfile: {type: Unconfined}}",
            "{}",
            Some(("RuntimeDefault", "", "runtime/default")),
        ),
        (
            "{KEY: localhost/x}",
            "{}",
            "{appArmorProfile: {type: Localhost, localhostProfile: y}}",
            Some(("Localhost", "y", "localhost/y")),
        ),
        (
            "{KEY: localhost/x}",
            "{}",
            "{}",
            Some(("Localhost", "x", "localhost/x")),
        ),
        ("{KEY: odd}", "{}", "{}", None),
    ] {
        let annotations = annotation.replace("KEY", KEY);
        let yaml = format!(
            "{{metadata: {{annotations: {annotations}}}, spec: {{securityContext: {of_pod},
              containers: [{{name: c, securityContext: {of_container}}}]}}}}"
        );
        let found = context(&yaml, &node(), &ImageUser::default()).unwrap();
        let profile = found.apparmor.as_ref();
        let found = profile.map(|p| {
            (
                p.profile_type().as_str_name(),
                p.localhost_ref.as_str(),
                found.apparmor_profile.as_str(),
            )
        });
        assert_eq!(found, expected, "{yaml}");
    }
    let missing =
        "{spec: {securityContext: {appArmorProfile: {type: Localhost}}, containers: [{name: c}]}}";
    let problem = context(missing, &node(), &ImageUser::default()).unwrap_err();
    assert_eq!(problem, "missing localhost apparmor profile name");
}

#[test]
fn an_unmasked_proc_has_no_masks_and_a_host_may_add_some() {
    let unmasked = "{spec: {containers: [{name: c, securityContext: {procMount: Unmasked}}]}}";
    let found = context(unmasked, &node(), &ImageUser::default()).unwrap();
    assert!(found.masked_paths.is_empty() && found.readonly_paths.is_empty());
    let mut node = node();
    node.extra_masked_paths = vec!["/sys/x".into()];
    let found = context(
        "{spec: {containers: [{name: c}]}}",
        &node,
        &ImageUser::default(),
    )
    .unwrap();
    assert_eq!(
        (
            found.masked_paths.len(),
            found.masked_paths.last().unwrap().as_str()
        ),
        (13, "/sys/x")
    );
}

#[test]
fn groups_and_their_policy_are_told_for_sandbox_and_container() {
    let yaml = |policy: &str| {
        format!(
            "{{spec: {{securityContext: {{fsGroup: 3, supplementalGroups: [2, 1], supplementalGroupsPolicy: {policy},
              seLinuxOptions: {{type: t, level: l}}}}, containers: [{{name: c}}]}}}}"
        )
    };
    let found = context(&yaml("Strict"), &node(), &ImageUser::default()).unwrap();
    assert_eq!(
        (
            &found.supplemental_groups[..],
            found.supplemental_groups_policy().as_str_name()
        ),
        (&[3, 2, 1][..], "Strict")
    );
    let sandbox = sandbox_security_context(&pod(&yaml("Strict"))).unwrap();
    assert_eq!(sandbox.supplemental_groups, [3, 2, 1]);
    assert_eq!(sandbox.selinux_options, found.selinux_options);
    let problem = context(&yaml("Odd"), &node(), &ImageUser::default()).unwrap_err();
    assert_eq!(problem, "unsupported supplementalGroupsPolicy: Odd");
}
