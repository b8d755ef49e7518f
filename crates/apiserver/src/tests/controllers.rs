//! The controllers.
//!
//! In:    objects
//! Out:   objects that were created, changed and deleted
//! Upstream: test/integration/{namespace,garbagecollector,scheduler,certificates}

use super::*;

#[tokio::test(start_paused = true)]
async fn a_cluster_begins_with_what_every_cluster_has() {
    let world = World::new().await;
    for namespace in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        let found = world.get(&format!("/api/v1/namespaces/{namespace}")).await;
        assert_eq!(
            (
                &found["status"]["phase"],
                &found["metadata"]["labels"]["kubernetes.io/metadata.name"]
            ),
            (&json!("Active"), &json!(namespace))
        );
        world
            .get(&format!(
                "/api/v1/namespaces/{namespace}/serviceaccounts/default"
            ))
            .await;
        let ca = world
            .get(&format!(
                "/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt"
            ))
            .await;
        assert!(
            ca["data"]["ca.crt"]
                .as_str()
                .unwrap()
                .starts_with("-----BEGIN CERTIFICATE")
        );
    }
    let service = world
        .get("/api/v1/namespaces/default/services/kubernetes")
        .await;
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    let endpoints = world
        .get("/api/v1/namespaces/default/endpoints/kubernetes")
        .await;
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "127.0.0.1");
    // A deleted object is created again.
    world
        .do_it(
            "DELETE /api/v1/namespaces/default/configmaps/kube-root-ca.crt",
            Value::Null,
        )
        .await;
    world.settle().await;
    world
        .get("/api/v1/namespaces/default/configmaps/kube-root-ca.crt")
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_when_it_is_empty_and_takes_nothing_new_meanwhile() {
    let world = World::new().await;
    world
        .do_it(
            "POST /api/v1/namespaces",
            json!({"metadata": {"name": "x"}}),
        )
        .await;
    world.settle().await;
    world
        .do_it("POST /api/v1/namespaces/x/pods", pod_on("a", "n"))
        .await;
    let marked = world
        .do_it("DELETE /api/v1/namespaces/x", Value::Null)
        .await;
    assert_eq!(marked["status"]["phase"], "Terminating");
    let (code, answer) = world
        .ask(
            "POST /api/v1/namespaces/x/configmaps",
            config_map("a", &json!({})),
        )
        .await;
    assert_eq!(
        (code, &answer["details"]["causes"][0]["reason"]),
        (403, &json!("NamespaceTerminating"))
    );
    world.settle().await;
    let held = world.get("/api/v1/namespaces/x").await;
    assert_eq!(
        held["status"]["conditions"][0]["message"],
        "Some resources are remaining: pods has 1 resource instances"
    );
    let pod = world.get("/api/v1/namespaces/x/pods/a").await;
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 30);
    world
        .do_it(
            "DELETE /api/v1/namespaces/x/pods/a",
            json!({"gracePeriodSeconds": 0}),
        )
        .await;
    world.settle().await;
    assert_eq!(
        world
            .refused("GET /api/v1/namespaces/x", Value::Null)
            .await
            .0,
        404
    );
    assert_eq!(
        world
            .refused("DELETE /api/v1/namespaces/default", Value::Null)
            .await
            .0,
        403
    );
}

#[tokio::test(start_paused = true)]
async fn dependents_follow_their_owner() {
    let world = World::new().await;
    let owner = world
        .do_it(
            &format!("POST {CONFIG_MAPS}"),
            config_map("owner", &json!({})),
        )
        .await;
    let owned = |name: &str, uid: &Value| json!({"metadata": {"name": name, "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "blockOwnerDeletion": true}]}});
    let uid = owner["metadata"]["uid"].clone();
    world
        .do_it(&format!("POST {CONFIG_MAPS}"), owned("child", &uid))
        .await;
    world
        .do_it(
            &format!("POST {CONFIG_MAPS}"),
            owned("stray", &json!("never-was")),
        )
        .await;
    world.settle().await;
    assert_eq!(
        world
            .refused(&format!("GET {CONFIG_MAPS}/stray"), Value::Null)
            .await
            .0,
        404
    );
    world.get(&format!("{CONFIG_MAPS}/child")).await;
    world
        .do_it(
            &format!("DELETE {CONFIG_MAPS}/owner"),
            json!({"propagationPolicy": "Foreground"}),
        )
        .await;
    let held = world.get(&format!("{CONFIG_MAPS}/owner")).await;
    assert_eq!(
        held["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    world.settle().await;
    for name in ["owner", "child"] {
        assert_eq!(
            world
                .refused(&format!("GET {CONFIG_MAPS}/{name}"), Value::Null)
                .await
                .0,
            404,
            "{name}"
        );
    }
    let owner = world
        .do_it(
            &format!("POST {CONFIG_MAPS}"),
            config_map("owner", &json!({})),
        )
        .await;
    world
        .do_it(
            &format!("POST {CONFIG_MAPS}"),
            owned("orphan", &owner["metadata"]["uid"]),
        )
        .await;
    world
        .do_it(
            &format!("DELETE {CONFIG_MAPS}/owner"),
            json!({"propagationPolicy": "Orphan"}),
        )
        .await;
    world.settle().await;
    let orphan = world.get(&format!("{CONFIG_MAPS}/orphan")).await;
    assert_eq!(
        orphan["metadata"]["ownerReferences"]
            .as_array()
            .map_or(0, Vec::len),
        0
    );
    assert_eq!(
        world
            .refused(&format!("GET {CONFIG_MAPS}/owner"), Value::Null)
            .await
            .0,
        404
    );
}

#[tokio::test(start_paused = true)]
async fn events_go_after_an_hour() {
    let world = World::new().await;
    let event =
        json!({"metadata": {"name": "e"}, "involvedObject": {}, "reason": "R", "type": "Normal"});
    world
        .do_it("POST /api/v1/namespaces/default/events", event)
        .await;
    world.settle().await;
    world.get("/api/v1/namespaces/default/events/e").await;
    // Its timestamps are on the wall clock, before the start of the server.
    world.advance(3700);
    world.settle().await;
    assert_eq!(
        world
            .refused("GET /api/v1/namespaces/default/events/e", Value::Null)
            .await
            .0,
        404
    );
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_wall_clock_ages_no_event_and_keeps_none() {
    let world = World::new().await;
    let (server, stop) = (world.server.clone(), world.stop.clone());
    proxy::spawn(async move { server.run(stop).await });
    let path = "/api/v1/namespaces/default/events";
    let event = |name: &str| json!({"metadata": {"name": name}, "involvedObject": {}, "reason": "R", "type": "Normal"});
    let is_there = async |name: &str| {
        let line = format!("GET {path}/{name}");
        world.ask(&line, Value::Null).await.0 == 200
    };
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.do_it(&format!("POST {path}"), event("a")).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    // The clock moves two days forward: the event is not older for that.
    world.advance(2 * 86_400);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(is_there("a").await);
    // And four days back: the event does not live longer.
    world.advance(-4 * 86_400);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(!is_there("a").await);
    world.stop.cancel();
}

async fn events_of(world: &World, reason: &str) -> Vec<String> {
    let list = world
        .get(&format!("/api/v1/events?fieldSelector=reason%3D{reason}"))
        .await;
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|e| e["message"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_pod_gets_the_node_when_it_fits_and_is_told_why_when_not() {
    let world = World::new().await;
    world.do_it(&format!("POST {PODS}"), pod("a")).await;
    world.settle().await;
    assert_eq!(
        events_of(&world, "FailedScheduling").await,
        ["no nodes available to schedule pods"]
    );
    world.do_it("POST /api/v1/nodes", ready_node("n")).await;
    world.settle().await;
    let bound = world.get(&format!("{PODS}/a")).await;
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(
        events_of(&world, "Scheduled").await,
        ["Successfully assigned default/a to n"]
    );
    let mut big = pod("big");
    big["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "3"}});
    let mut elsewhere = pod("elsewhere");
    elsewhere["spec"]["nodeSelector"] = json!({"disk": "ssd"});
    let mut foreign = pod("foreign");
    foreign["spec"]["schedulerName"] = "mine".into();
    for sent in [big, elsewhere, foreign] {
        world.do_it(&format!("POST {PODS}"), sent).await;
    }
    world.settle().await;
    for (name, message) in [
        ("big", json!("0/1 nodes are available: 1 Insufficient cpu.")),
        (
            "elsewhere",
            json!("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."),
        ),
        ("foreign", Value::Null),
    ] {
        let waiting = world.get(&format!("{PODS}/{name}")).await;
        assert_eq!(waiting["spec"]["nodeName"], Value::Null);
        assert_eq!(
            waiting["status"]["conditions"][0]["message"], message,
            "{name}"
        );
    }
    world
        .do_it(
            "PATCH /api/v1/nodes/n",
            json!({"metadata": {"labels": {"disk": "ssd"}}}),
        )
        .await;
    world.settle().await;
    assert_eq!(
        world.get(&format!("{PODS}/elsewhere")).await["spec"]["nodeName"],
        "n"
    );
    world
        .do_it(
            "PATCH /api/v1/nodes/n",
            json!({"spec": {"unschedulable": true}}),
        )
        .await;
    world.do_it(&format!("POST {PODS}"), pod("late")).await;
    world.settle().await;
    let late = world.get(&format!("{PODS}/late")).await;
    assert_eq!(
        late["status"]["conditions"][0]["message"],
        "0/1 nodes are available: 1 node(s) were unschedulable."
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_a_port_of_the_host_and_for_whatever_the_kubelet_would_refuse() {
    let world = World::new().await;
    let mut node = ready_node("n");
    node["status"]["nodeInfo"] = json!({"operatingSystem": "linux"});
    world.do_it("POST /api/v1/nodes", node).await;
    let with_port = |name: &str, port: Value| {
        let mut pod = pod(name);
        pod["spec"]["containers"][0]["ports"] = json!([port]);
        pod
    };
    let web = json!({"containerPort": 80, "hostPort": 8080});
    let udp = json!({"containerPort": 80, "hostPort": 8080, "protocol": "UDP"});
    let own = json!({"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"});
    let mut hungry = pod("hungry");
    hungry["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "3", "memory": "9Gi"}});
    let mut foreign = pod("foreign");
    foreign["spec"]["os"] = json!({"name": "windows"});
    let mut strict = pod("strict");
    strict["spec"]["securityContext"] = json!({"supplementalGroupsPolicy": "Strict"});
    let first = with_port("first", web.clone());
    world.do_it(&format!("POST {PODS}"), first).await;
    world.settle().await;
    for sent in [
        with_port("second", web),
        with_port("udp", udp),
        with_port("own", own),
        hungry,
        foreign,
        strict,
    ] {
        world.advance(1);
        world.do_it(&format!("POST {PODS}"), sent).await;
    }
    world.settle().await;
    let taken = "1 node(s) didn't have free ports for the requested pod ports";
    for (name, why) in [
        ("first", ""),
        ("udp", ""),
        ("second", taken),
        ("own", taken),
        ("hungry", "1 Insufficient cpu, 1 Insufficient memory"),
        (
            "foreign",
            "1 node(s) didn't match the pod's operating system",
        ),
        (
            "strict",
            "1 node(s) didn't support SupplementalGroupsPolicy=Strict",
        ),
    ] {
        let found = world.get(&format!("{PODS}/{name}")).await;
        let condition = &found["status"]["conditions"][0];
        if why.is_empty() {
            assert_eq!(found["spec"]["nodeName"], "n", "{name}");
            continue;
        }
        let why = format!("0/1 nodes are available: {why}.");
        assert_eq!(found["spec"]["nodeName"], Value::Null, "{name}");
        assert_eq!(found["status"]["phase"], "Pending", "{name}");
        assert_eq!(condition["message"], why, "{name}");
        assert_eq!(
            (
                &condition["type"],
                &condition["status"],
                &condition["reason"]
            ),
            (
                &json!("PodScheduled"),
                &json!("False"),
                &json!("Unschedulable")
            )
        );
        assert!(events_of(&world, "FailedScheduling").await.contains(&why));
    }
    // The port is free once its pod has ended; of the two waiting pods, the older gets it.
    let ended = json!({"status": {"phase": "Succeeded"}});
    world
        .do_it(&format!("PATCH {PODS}/first/status"), ended)
        .await;
    world.settle().await;
    for (name, node) in [("second", json!("n")), ("own", Value::Null)] {
        let found = world.get(&format!("{PODS}/{name}")).await;
        assert_eq!(found["spec"]["nodeName"], node, "{name}");
    }
    let gone = json!({"gracePeriodSeconds": 0});
    world.do_it(&format!("DELETE {PODS}/second"), gone).await;
    world.settle().await;
    let own = world.get(&format!("{PODS}/own")).await;
    assert_eq!(own["spec"]["nodeName"], "n");
    let conditions = own["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 1);
    assert_eq!(conditions[0]["status"], "True");
}

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn request_for(name: &str, node: &str, signer: &str, names: &[&str]) -> Value {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut parameters = rcgen::CertificateParams::new(names).unwrap();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "system:nodes");
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, format!("system:node:{node}"));
    let pem = parameters
        .serialize_request(&rcgen::KeyPair::generate().unwrap())
        .unwrap()
        .pem()
        .unwrap();
    let purpose = if signer.ends_with("serving") {
        "server auth"
    } else {
        "client auth"
    };
    json!({"metadata": {"name": name}, "spec": {
        "request": crate::base::encoding::base64(pem.as_bytes()), "signerName": signer,
        "usages": ["digital signature", purpose], "expirationSeconds": 3600,
        "username": "admin-i-say", "groups": ["system:masters"],
    }})
}

#[tokio::test(start_paused = true)]
async fn a_kubelets_own_certificates_are_signed_and_no_others() {
    let world = World::new().await;
    let (client, serving) = (
        "kubernetes.io/kube-apiserver-client-kubelet",
        "kubernetes.io/kubelet-serving",
    );
    let kubelet = User::node("n");
    let mut node = ready_node("n");
    node["status"]["addresses"] = json!([
        {"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n"},
    ]);
    world.do_it("POST /api/v1/nodes", node).await;
    for (name, node, signer, names) in [
        ("client", "n", client, &[][..]),
        ("serving", "n", serving, &["n", "10.0.0.1"][..]),
        ("others", "n", serving, &["n", "10.0.0.2"][..]),
        ("named", "n", client, &["n"][..]),
        ("unnamed", "n", serving, &[][..]),
        ("unknown", "n", "example.com/x", &[][..]),
    ] {
        let (code, made) = world
            .ask_as(
                &kubelet,
                &format!("POST {REQUESTS}"),
                request_for(name, node, signer, names),
            )
            .await;
        assert_eq!(
            (code, &made["spec"]["username"]),
            (201, &json!("system:node:n"))
        );
    }
    world.settle().await;
    for (name, signed) in [
        ("client", true),
        ("serving", true),
        ("others", false),
        ("named", false),
        ("unnamed", false),
        ("unknown", false),
    ] {
        let request = world.get(&format!("{REQUESTS}/{name}")).await;
        assert_eq!(
            request["status"]["certificate"].is_string(),
            signed,
            "{name}: {request}"
        );
    }
    let request = world.get(&format!("{REQUESTS}/client")).await;
    let pem =
        crate::base::encoding::from_base64(request["status"]["certificate"].as_str().unwrap())
            .unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let certificate = pem.parse_x509().unwrap();
    assert_eq!(certificate.validity().not_after.timestamp(), NOON + 3600);
    assert_eq!(
        certificate
            .subject()
            .iter_common_name()
            .next()
            .unwrap()
            .as_str()
            .unwrap(),
        "system:node:n"
    );
    // A person may approve a CSR that is well formed and names a known signer.
    let others = format!("{REQUESTS}/others");
    world.do_it(&format!("PATCH {others}/approval"), json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "ByHand"}]}})).await;
    world.settle().await;
    assert!(world.get(&others).await["status"]["certificate"].is_string());
}
