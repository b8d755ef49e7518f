//! Expansion against upstream's table, sources of variables, downward API.

use super::*;
use crate::testing::{node, pod, pod_of};

#[test]
fn references_expand_as_upstreams_table_says() {
    let values = BTreeMap::from([
        ("VAR_A", "A"),
        ("VAR_B", "B"),
        ("VAR_C", "C"),
        ("VAR_REF", "$(VAR_A)"),
        ("VAR_EMPTY", ""),
    ]);
    for (input, expected) in [
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("___$(VAR_C)", "___C"),
        ("$(VAR_A)_", "A_"),
        ("$(VAR_B)_$(VAR_A)", "B_A"),
        ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        ("foo\\$(VAR_C)bar", "foo\\Cbar"),
        ("foo\\\\$(VAR_C)bar", "foo\\\\Cbar"),
        ("$(VAR_REF)", "$(VAR_A)"),
        ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
        ("foo$(VAR_EMPTY)bar", "foobar"),
        ("foo$(VAR_Awhoops!", "foo$(VAR_Awhoops!"),
        ("f00__(VAR_A)__", "f00__(VAR_A)__"),
        ("$?_boo_$!", "$?_boo_$!"),
        ("$VAR_A", "$VAR_A"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("$$$$$$(BIG_MONEY)", "$$$(BIG_MONEY)"),
        ("$$$$$$(VAR_A)", "$$$(VAR_A)"),
        ("$$$$$$$(GOOD_ODDS)", "$$$$(GOOD_ODDS)"),
        ("$$$$$$$(VAR_A)", "$$$A"),
        ("$VAR_A)", "$VAR_A)"),
        ("${VAR_A}", "${VAR_A}"),
        ("$(VAR_B)_______$(A", "B_______$(A"),
        ("$(VAR_C)_______$(", "C_______$("),
        ("$(VAR_A)foobarzab$", "Afoobarzab$"),
        ("foo-\\$(VAR_A", "foo-\\$(VAR_A"),
        ("--$($($($($--", "--$($($($($--"),
        ("$($($($($--foo$(", "$($($($($--foo$("),
        ("foo0--$($($($(", "foo0--$($($($("),
        ("$(foo$$var)", "$(foo$$var)"),
        ("", ""),
        ("$", "$"),
        ("$\u{e9}", "$\u{e9}"),
    ] {
        assert_eq!(
            expand(input, |name| values.get(name).map(ToString::to_string)),
            expected,
            "{input}"
        );
    }
}

fn check(env: &str) -> Result<Vec<(String, String)>, String> {
    check_pod(&pod(&format!(
        r#"{{metadata: {{name: web, labels: {{b: "2", a: "1\"\n\u00e9"}}, annotations: {{note: x, a/b: y}}}},
        spec: {{nodeName: bench, serviceAccountName: robot,
          initContainers: [{{name: first}}],
          containers: [{{name: c, env: {env}, resources: {{
            requests: {{cpu: 150m, memory: 1Ki}}, limits: {{cpu: 1500m, hugepages-2Mi: 4Mi}}}}}}]}}}}"#
    )))
}

fn check_pod(pod: &Pod) -> Result<Vec<(String, String)>, String> {
    let pod_ips = [
        "fd00::9".to_owned(),
        "10.244.0.7".to_owned(),
        "10.9.9.9".to_owned(),
    ];
    let view = EnvView {
        pod,
        container: &pod.containers()[0],
        node: &node(),
        pod_ips: &pod_ips,
    };
    let env = container_env(&view).map_err(|problem| problem.message)?;
    Ok(env
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

fn pairs(expected: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
    Ok(expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect())
}

#[test]
fn variables_see_only_those_before_them_and_keep_their_place() {
    let env = "[{name: A, value: $(B)}, {name: B, value: b}, {name: C, value: $(A)-$(B)-$$(B)}, {name: A, value: again}]";
    assert_eq!(
        check(env),
        pairs(&[("A", "again"), ("B", "b"), ("C", "$(B)-b-$(B)")])
    );
}

#[test]
fn fields_of_the_pod_are_values() {
    for (path, expected) in [
        ("metadata.name", "web"),
        ("metadata.namespace", "default"),
        ("metadata.uid", "u1"),
        ("metadata.labels", "a=\"1\\\"\\n\u{e9}\"\nb=\"2\""),
        ("metadata.annotations", "a/b=\"y\"\nnote=\"x\""),
        ("metadata.labels['b']", "2"),
        ("metadata.annotations['a/b']", "y"),
        ("metadata.annotations['none']", ""),
        ("spec.nodeName", "bench"),
        ("spec.serviceAccountName", "robot"),
        ("status.hostIP", "10.0.0.5"),
        ("status.hostIPs", "10.0.0.5,fd00::5"),
        ("status.podIP", "10.244.0.7"),
        ("status.podIPs", "10.244.0.7,fd00::9"),
    ] {
        let env = format!("[{{name: V, valueFrom: {{fieldRef: {{fieldPath: \"{path}\"}}}}}}]");
        assert_eq!(check(&env), pairs(&[("V", expected)]), "{path}");
    }
}

#[test]
fn resources_are_values_in_units_of_the_divisor() {
    for (resource, divisor, expected) in [
        ("limits.cpu", "0", "2"),
        ("limits.cpu", "1m", "1500"),
        ("requests.cpu", "1", "1"),
        ("requests.cpu", "100m", "2"),
        ("requests.memory", "1", "1024"),
        ("requests.memory", "1Mi", "1"),
        ("limits.memory", "1", "25171652608"),
        ("limits.memory", "1Gi", "24"),
        ("limits.ephemeral-storage", "1k", "9"),
        ("requests.ephemeral-storage", "1", "0"),
        ("limits.hugepages-2Mi", "1Mi", "4"),
        ("limits.hugepages-1Gi", "1", "0"),
    ] {
        let env = format!(
            "[{{name: V, valueFrom: {{resourceFieldRef: {{resource: {resource}, divisor: \"{divisor}\"}}}}}}]"
        );
        assert_eq!(
            check(&env),
            pairs(&[("V", expected)]),
            "{resource} / {divisor}"
        );
    }
    let named = "[{name: V, valueFrom: {resourceFieldRef: {containerName: first, resource: limits.memory}}}]";
    assert_eq!(
        check(named),
        pairs(&[("V", "0")]),
        "an init container has no defaults here"
    );
}

#[test]
fn a_pods_own_limit_stands_in_for_a_containers() {
    let pod = pod_of(
        "{resources: {limits: {memory: 64Mi}}, containers: [{name: c, env: [
          {name: V, valueFrom: {resourceFieldRef: {resource: limits.memory}}}]}]}",
    );
    assert_eq!(check_pod(&pod), pairs(&[("V", "67108864")]));
}

#[test]
fn sources_that_can_not_be_had_are_named() {
    for (source, expected) in [
        (
            "configMapKeyRef: {name: cm, key: k}",
            "couldn't get configMap default/cm, no kubeClient defined",
        ),
        (
            "secretKeyRef: {name: s, key: k}",
            "couldn't get secret default/s, no kubeClient defined",
        ),
        (
            "fileKeyRef: {volumeName: v, path: p, key: k}",
            "env V: valueFrom.fileKeyRef is not supported",
        ),
        (
            "fieldRef: {fieldPath: status.phase}",
            "unsupported fieldPath: status.phase",
        ),
        (
            "fieldRef: {fieldPath: spec.x}",
            "field label not supported: spec.x",
        ),
        (
            "fieldRef: {fieldPath: \"spec['x']\"}",
            "field label does not support subscript: spec['x']",
        ),
        (
            "fieldRef: {apiVersion: v2, fieldPath: spec.x}",
            "unsupported pod version: v2",
        ),
        (
            "resourceFieldRef: {resource: limits.gpu}",
            "unsupported container resource : limits.gpu",
        ),
        (
            "resourceFieldRef: {containerName: no, resource: limits.cpu}",
            "container no not found",
        ),
    ] {
        let env = format!("[{{name: V, valueFrom: {{{source}}}}}]");
        assert_eq!(check(&env), Err(expected.to_owned()));
    }
    let pod = pod_of("{containers: [{name: c, envFrom: [{prefix: p, secretRef: {name: s}}]}]}");
    assert_eq!(
        check_pod(&pod),
        Err("couldn't get secret default/s, no kubeClient defined".to_owned())
    );
}

#[test]
fn texts_are_quoted_as_go_quotes_them() {
    for (text, expected) in [
        ("it's", "\"it's\""),
        ("\u{7}\u{8}\t\u{1}\u{7f}", "\"\\a\\b\\t\\x01\\x7f\""),
        ("\u{a0}\u{200b}\u{e0001}", "\"\\u00a0\\u200b\\U000e0001\""),
        ("e\u{301}\u{1f600}", "\"e\u{301}\u{1f600}\""),
    ] {
        assert_eq!(quoted(text), expected);
    }
}
