//! Pods: defaults, admission, updates, binding, the two steps of a deletion.
//!
//! In:    requests
//! Out:   responses
//! Upstream: pkg/registry/core/pod/strategy_test.go, plugin/pkg/admission/serviceaccount/admission_test.go

use super::*;

#[tokio::test]
async fn a_pod_gets_its_defaults_and_what_admission_adds() {
    let world = World::new().await;
    let made = world.do_it(&format!("POST {PODS}"), pod("a")).await;
    let (spec, meta) = (&made["spec"], &made["metadata"]);
    assert_eq!(meta["generation"], 1);
    assert_eq!(
        made["status"],
        json!({"phase": "Pending", "qosClass": "BestEffort"})
    );
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("enableServiceLinks", json!(true)),
        ("priority", json!(0)),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
        ("serviceAccountName", json!("default")),
        ("serviceAccount", json!("default")),
        ("schedulerName", json!("default-scheduler")),
    ] {
        assert_eq!(spec[field], value, "{field}");
    }
    let container = &spec["containers"][0];
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(
        container["volumeMounts"][0]["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    let volume = &spec["volumes"][0];
    assert_eq!(volume["name"], container["volumeMounts"][0]["name"]);
    assert_eq!(
        volume["projected"]["sources"][0],
        json!({"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}})
    );
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn classes_of_quality_and_priority_follow_from_the_pod() {
    let world = World::new().await;
    for (name, resources, qos) in [
        (
            "a",
            json!({"limits": {"cpu": "1", "memory": 1024}}),
            "Guaranteed",
        ),
        ("b", json!({"requests": {"cpu": 0.1}}), "Burstable"),
        ("c", json!({"limits": {"cpu": "1"}}), "Burstable"),
    ] {
        let mut sent = pod(name);
        sent["spec"]["containers"][0]["resources"] = resources;
        let made = world.do_it(&format!("POST {PODS}"), sent).await;
        assert_eq!(made["status"]["qosClass"], qos, "{name}");
    }
    let b = world.get(&format!("{PODS}/b")).await;
    assert_eq!(
        b["spec"]["containers"][0]["resources"]["requests"]["cpu"],
        "100m"
    );
    let mut critical = pod("d");
    critical["spec"]["priorityClassName"] = "system-node-critical".into();
    let made = world.do_it(&format!("POST {PODS}"), critical.clone()).await;
    assert_eq!(made["spec"]["priority"], 2_000_001_000);
    critical["spec"]["priorityClassName"] = "none".into();
    assert_eq!(
        world.refused(&format!("POST {PODS}"), critical).await.0,
        403
    );
}

#[tokio::test]
async fn a_pod_without_its_service_account_is_refused_and_one_that_wants_no_token_gets_none() {
    let world = World::new().await;
    let mut sent = pod("a");
    sent["spec"]["serviceAccountName"] = "nobody".into();
    let (code, answer) = world.ask(&format!("POST {PODS}"), sent).await;
    assert_eq!(code, 403);
    assert_eq!(
        answer["message"],
        "pods \"a\" is forbidden: error looking up service account default/nobody: serviceaccount \"nobody\" not found"
    );
    let mut sent = pod("b");
    sent["spec"]["automountServiceAccountToken"] = false.into();
    let made = world.do_it(&format!("POST {PODS}"), sent).await;
    assert_eq!(made["spec"]["volumes"], Value::Null);
}

#[tokio::test]
async fn a_wrong_pod_is_told_all_that_is_wrong() {
    let world = World::new().await;
    let bad = json!({"metadata": {"name": "a"}, "spec": {"restartPolicy": "Sometimes", "containers": [
        {"name": "c", "image": ""}, {"name": "c", "image": "x", "volumeMounts": [{"name": "none", "mountPath": "/a"}]},
    ]}});
    let (code, answer) = world.ask(&format!("POST {PODS}"), bad).await;
    assert_eq!(code, 422);
    let fields: Vec<&str> = answer["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["field"].as_str().unwrap())
        .collect();
    assert_eq!(
        fields,
        [
            "spec.containers[0].image",
            "spec.containers[1].volumeMounts[0].name",
            "spec.containers[1].name",
            "spec.restartPolicy",
        ]
    );
}

#[tokio::test]
async fn spec_and_status_change_through_their_own_paths_only() {
    let world = World::new().await;
    world.do_it(&format!("POST {PODS}"), pod("a")).await;
    let path = format!("{PODS}/a");
    let image = json!({"spec": {"containers": [{"name": "c", "image": "busybox:2"}]}, "status": {"phase": "Running"}});
    let made = world.do_it(&format!("PATCH {path}"), image).await;
    assert_eq!(
        (&made["metadata"]["generation"], &made["status"]["phase"]),
        (&json!(2), &json!("Pending"))
    );
    let status = json!({"spec": {"containers": [{"name": "c", "image": "busybox:3"}]}, "status": {"phase": "Running"}});
    let made = world.do_it(&format!("PATCH {path}/status"), status).await;
    assert_eq!(
        (&made["metadata"]["generation"], &made["status"]["phase"]),
        (&json!(2), &json!("Running"))
    );
    assert_eq!(made["spec"]["containers"][0]["image"], "busybox:2");
    for patch in [
        json!({"spec": {"restartPolicy": "Never"}}),
        json!({"spec": {"containers": [{"name": "d", "image": "x"}]}}),
        json!({"spec": {"nodeName": "n"}}),
        json!({"spec": {"tolerations": []}}),
    ] {
        assert_eq!(
            world.refused(&format!("PATCH {path}"), patch.clone()).await,
            (422, "Invalid".to_owned()),
            "{patch}"
        );
    }
    // A patch that changes nothing writes nothing.
    let version = world.server.0.registry.store.version();
    world
        .do_it(
            &format!("PATCH {path}"),
            json!({"spec": {"containers": [{"name": "c", "image": "busybox:2"}]}}),
        )
        .await;
    assert_eq!(world.server.0.registry.store.version(), version);
}

#[tokio::test]
async fn a_running_pod_goes_in_two_steps() {
    let world = World::new().await;
    world.do_it(&format!("POST {PODS}"), pod_on("a", "n")).await;
    let path = format!("{PODS}/a");
    let marked = world.do_it(&format!("DELETE {path}"), Value::Null).await;
    assert_eq!(
        marked["metadata"]["deletionTimestamp"],
        "2026-11-25T12:00:30Z"
    );
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(marked["metadata"]["generation"], 2);
    // The deadline is only shortened.
    world.advance(5);
    let same = world
        .do_it(&format!("DELETE {path}"), json!({"gracePeriodSeconds": 60}))
        .await;
    assert_eq!(same["metadata"]["deletionGracePeriodSeconds"], 30);
    let nearer = world
        .do_it(&format!("DELETE {path}"), json!({"gracePeriodSeconds": 10}))
        .await;
    assert_eq!(
        nearer["metadata"]["deletionTimestamp"],
        "2026-11-25T12:00:10Z"
    );
    // The kubelet's final deletion, of the right pod only.
    let other = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "other"}});
    assert_eq!(world.refused(&format!("DELETE {path}"), other).await.0, 409);
    let uid = &nearer["metadata"]["uid"];
    world
        .do_it(
            &format!("DELETE {path}"),
            json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}),
        )
        .await;
    assert_eq!(
        world.refused(&format!("GET {path}"), Value::Null).await.0,
        404
    );
}

#[tokio::test]
async fn a_pod_that_no_kubelet_has_goes_at_once() {
    let world = World::new().await;
    world.do_it(&format!("POST {PODS}"), pod("unbound")).await;
    world
        .do_it(&format!("POST {PODS}"), pod_on("ended", "n"))
        .await;
    world
        .do_it(
            &format!("PATCH {PODS}/ended/status"),
            json!({"status": {"phase": "Succeeded"}}),
        )
        .await;
    world
        .do_it(&format!("POST {PODS}"), pod_on("forced", "n"))
        .await;
    for (name, body) in [
        ("unbound", Value::Null),
        ("ended", Value::Null),
        ("forced", json!({"gracePeriodSeconds": 0})),
    ] {
        world.do_it(&format!("DELETE {PODS}/{name}"), body).await;
        assert_eq!(
            world
                .refused(&format!("GET {PODS}/{name}"), Value::Null)
                .await
                .0,
            404,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_finalizer_holds_until_it_is_taken_away() {
    let world = World::new().await;
    let mut sent = pod_on("a", "n");
    sent["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.do_it(&format!("POST {PODS}"), sent).await;
    world
        .do_it(
            &format!("DELETE {PODS}/a"),
            json!({"gracePeriodSeconds": 0}),
        )
        .await;
    let held = world.get(&format!("{PODS}/a")).await;
    assert_eq!(held["metadata"]["deletionGracePeriodSeconds"], 0);
    let add = json!({"metadata": {"finalizers": ["example.com/more"]}});
    assert_eq!(world.refused(&format!("PATCH {PODS}/a"), add).await.0, 422);
    world
        .do_it(
            &format!("PATCH:json {PODS}/a"),
            json!([{"op": "remove", "path": "/metadata/finalizers"}]),
        )
        .await;
    assert_eq!(
        world.refused(&format!("GET {PODS}/a"), Value::Null).await.0,
        404
    );
}

#[tokio::test]
async fn a_pod_is_bound_once_and_evicted_with_its_grace() {
    let world = World::new().await;
    world.do_it(&format!("POST {PODS}"), pod("a")).await;
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}});
    world
        .do_it(&format!("POST {PODS}/a/binding"), binding.clone())
        .await;
    let bound = world.get(&format!("{PODS}/a")).await;
    assert_eq!(
        (&bound["spec"]["nodeName"], &bound["metadata"]["generation"]),
        (&json!("n"), &json!(1))
    );
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let (code, answer) = world.ask(&format!("POST {PODS}/a/binding"), binding).await;
    assert_eq!(code, 409);
    assert_eq!(
        answer["message"],
        "Operation cannot be fulfilled on pods \"a\": pod a is already assigned to node \"n\""
    );
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
    assert_eq!(
        world
            .do_it(&format!("POST {PODS}/a/eviction"), eviction)
            .await["status"],
        "Success"
    );
    assert_eq!(
        world.get(&format!("{PODS}/a")).await["metadata"]["deletionGracePeriodSeconds"],
        30
    );
}

#[tokio::test]
async fn ephemeral_containers_come_and_stay_and_resources_resize() {
    let world = World::new().await;
    world.do_it(&format!("POST {PODS}"), pod("a")).await;
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}], "restartPolicy": "Never"}});
    let made = world
        .do_it(&format!("PATCH {PODS}/a/ephemeralcontainers"), debug)
        .await;
    assert_eq!(
        made["spec"]["ephemeralContainers"][0]["terminationMessagePath"],
        "/dev/termination-log"
    );
    assert_eq!(made["spec"]["restartPolicy"], "Always");
    let gone = json!([{"op": "remove", "path": "/spec/ephemeralContainers"}]);
    assert_eq!(
        world
            .refused(&format!("PATCH:json {PODS}/a/ephemeralcontainers"), gone)
            .await
            .0,
        422
    );
    let mut sized = pod("b");
    sized["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    world.do_it(&format!("POST {PODS}"), sized).await;
    let more = json!({"spec": {"containers": [{"name": "c", "image": "other", "resources": {"requests": {"cpu": "2"}}}]}});
    let made = world
        .do_it(&format!("PATCH {PODS}/b/resize"), more.clone())
        .await;
    assert_eq!(
        made["spec"]["containers"][0]["resources"]["requests"]["cpu"],
        "2"
    );
    assert_eq!(made["spec"]["containers"][0]["image"], "busybox");
    assert_eq!(
        world
            .refused(&format!("PATCH {PODS}/a/resize"), more)
            .await
            .0,
        422
    );
}

#[tokio::test]
async fn a_deadline_is_set_and_lowered_and_nothing_else() {
    let world = World::new().await;
    let mut late = pod("late");
    late["spec"]["activeDeadlineSeconds"] = json!(0);
    let (code, answer) = world.ask(&format!("POST {PODS}"), late).await;
    let cause = &answer["details"]["causes"][0];
    assert_eq!(
        (code, &cause["field"]),
        (422, &json!("spec.activeDeadlineSeconds"))
    );
    assert_eq!(
        cause["message"],
        "Invalid value: 0: must be between 1 and 2147483647, inclusive"
    );
    world.do_it(&format!("POST {PODS}"), pod("a")).await;
    let path = format!("PATCH {PODS}/a");
    let to = |seconds: Value| json!({"spec": {"activeDeadlineSeconds": seconds}});
    for seconds in [100, 100, 60] {
        let made = world.do_it(&path, to(json!(seconds))).await;
        assert_eq!(made["spec"]["activeDeadlineSeconds"], seconds);
    }
    for (seconds, expected) in [
        (
            json!(61),
            "Invalid value: 61: must be less than or equal to previous value",
        ),
        (
            Value::Null,
            "Invalid value: null: must not update from a positive integer to nil value",
        ),
        (
            json!(2_147_483_648_i64),
            "Invalid value: 2147483648: must be between 1 and 2147483647, inclusive",
        ),
    ] {
        let (code, answer) = world.ask(&path, to(seconds)).await;
        assert_eq!(
            (code, &answer["details"]["causes"][0]["message"]),
            (422, &json!(expected))
        );
    }
}

#[tokio::test]
async fn a_pod_takes_over_what_its_runtime_class_says() {
    let world = World::new().await;
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kata"}, "handler": "kata",
        "overhead": {"podFixed": {"cpu": "250m", "memory": "64Mi"}},
        "scheduling": {"nodeSelector": {"kata": "yes"}, "tolerations": [{"key": "kata", "operator": "Exists"}]}});
    world
        .do_it("POST /apis/node.k8s.io/v1/runtimeclasses", class)
        .await;
    let of_class = |name: &str, more: Value| {
        let mut pod = pod(name);
        let spec = pod["spec"].as_object_mut().unwrap();
        spec.insert("runtimeClassName".to_owned(), json!("kata"));
        spec.extend(more.as_object().unwrap().clone());
        pod
    };
    let same = json!({"nodeSelector": {"a": "b"}, "overhead": {"cpu": "0.25", "memory": "64Mi"}});
    for (name, more) in [("a", json!({})), ("b", same)] {
        let made = world
            .do_it(&format!("POST {PODS}"), of_class(name, more))
            .await;
        let spec = &made["spec"];
        assert_eq!(spec["overhead"], json!({"cpu": "250m", "memory": "64Mi"}));
        assert_eq!(spec["nodeSelector"]["kata"], "yes");
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 3);
    }
    let mut unclassed = pod("c");
    unclassed["spec"]["overhead"] = json!({"cpu": "1"});
    let mut unknown = pod("d");
    unknown["spec"]["runtimeClassName"] = json!("gone");
    let other = json!({"overhead": {"cpu": "1"}});
    let elsewhere = json!({"nodeSelector": {"kata": "no"}});
    for (sent, why) in [
        (
            unclassed,
            "Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (unknown, "RuntimeClass \"gone\" not found"),
        (
            of_class("e", other),
            "Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            of_class("f", elsewhere),
            "conflict: runtimeClass.scheduling.nodeSelector[kata] = yes; pod.spec.nodeSelector[kata] = no",
        ),
    ] {
        let (code, answer) = world.ask(&format!("POST {PODS}"), sent).await;
        let message = answer["message"].as_str().unwrap();
        assert!(code == 403 && message.contains(why), "{code} {message}");
    }
}

#[tokio::test]
async fn variables_from_files_name_a_key_a_path_and_a_volume_of_the_pod_itself() {
    let world = World::new().await;
    let volumes = json!([
        {"name": "config", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "secret", "secret": {"secretName": "s"}},
    ]);
    let field = "spec.containers[0].env[0].valueFrom.fileKeyRef";
    let key = "a valid environment variable name must consist only of printable ASCII characters other than '='";
    let wrong = |part: &str, what: &str| format!("{field}.{part}: {what}");
    let not_empty_dir = "Invalid value: \"secret\": referenced volume must be of type emptyDir";
    for (selector, words) in [
        (("config", "KEY", "file.env"), vec![]),
        (("memory", "a key!", "a/b..c/file"), vec![]),
        (
            ("secret", "KEY", "f"),
            vec![wrong("volumeName", not_empty_dir)],
        ),
        (
            ("gone", "KEY", "f"),
            vec![wrong("volumeName", "Not found: \"gone\"")],
        ),
        (("config", "", "f"), vec![wrong("key", "Required value")]),
        (("config", "K", ""), vec![wrong("path", "Required value")]),
        (
            ("config", "bad=key", "../etc"),
            vec![
                wrong("key", &format!("Invalid value: \"bad=key\": {key}")),
                wrong("path", "Invalid value: \"../etc\": must not contain '..'"),
            ],
        ),
        (
            ("", "K", "f"),
            vec![
                wrong("volumeName", "Required value"),
                wrong("volumeName", "Not found: \"\""),
            ],
        ),
    ] {
        for which in ["containers", "initContainers"] {
            let mut pod = pod("a");
            pod["spec"]["volumes"] = volumes.clone();
            let (volume, key, path) = selector;
            let selector = json!({"volumeName": volume, "key": key, "path": path});
            let env = json!([{"name": "V", "valueFrom": {"fileKeyRef": selector}}]);
            let container = json!({"name": "x", "image": "i", "env": env});
            pod["spec"]["initContainers"] = json!([{"name": "y", "image": "i"}]);
            pod["spec"][which][0] = container;
            let line = format!("POST {PODS}?dryRun=All");
            let (code, answer) = world.ask(&line, pod).await;
            let said = answer["message"].as_str().unwrap_or_default();
            assert_eq!(
                code,
                if words.is_empty() { 201 } else { 422 },
                "{selector}: {said}"
            );
            for word in &words {
                let word = word.replace("containers", which);
                assert!(said.contains(&word), "{selector}: {said}");
            }
        }
    }
}

#[tokio::test]
async fn tolerations_can_be_added_and_last_otherwise_and_many_are_compared_quickly() {
    let world = World::new().await;
    let one = |n: i32| json!({"key": format!("k{n}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1});
    let mut many = pod("a");
    many["spec"]["tolerations"] = (0..4_000).map(one).collect();
    let made = world.do_it(&format!("POST {PODS}"), many).await;
    // Two tolerations are added to every pod.
    let mut all = made["spec"]["tolerations"].as_array().unwrap().clone();
    assert_eq!(all.len(), 4_002);
    all.iter_mut()
        .for_each(|one| one["tolerationSeconds"] = 2.into());
    let line = format!("PATCH:merge {PODS}/a");
    let patch = |tolerations: &[Value]| json!({"spec": {"tolerations": tolerations}});
    let began = std::time::Instant::now();
    let (code, answer) = world.ask(&line, patch(&all[1..])).await;
    let said = answer["message"].as_str().unwrap_or_default();
    let why = "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds";
    assert_eq!(code, 422);
    assert!(said.contains(why), "{said}");
    all.push(one(4_000));
    let changed = world.do_it(&line, patch(&all)).await;
    assert_eq!(changed["spec"]["tolerations"][7]["tolerationSeconds"], 2);
    // Comparing one by one would take minutes.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
}
