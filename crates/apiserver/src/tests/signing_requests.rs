//! Which CSRs are approved automatically, and which are signed at all: upstream's tables, and the Node's names.
//!
//! In:    stored CSRs with their requesters
//! Out:   conditions and certificates
//! Upstream: pkg/controller/certificates/approver/sarapprove_test.go TestRecognizers, pkg/controller/certificates/signer/signer_test.go
//!           TestHandle, plugin/pkg/admission/noderestriction/admission_test.go (CSR rows) (1.36); left out: the signers
//!           kube-apiserver-client and legacy-unknown, which are not served

use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, SanType};

use super::*;
use crate::base::encoding::{base64, from_base64};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const STORAGE: &str = "certificatesigningrequests.certificates.k8s.io";
const FOO: &str = "system:node:foo";

/// What is requested, and by whom.
#[derive(Clone)]
struct Wanted {
    signer: &'static str,
    names: Vec<&'static str>,
    organizations: Vec<&'static str>,
    sans: Vec<SanType>,
    usages: Vec<&'static str>,
    asker: &'static str,
    approved: bool,
}

fn client() -> Wanted {
    Wanted {
        signer: CLIENT,
        names: vec![FOO],
        organizations: vec!["system:nodes"],
        sans: Vec::new(),
        usages: vec!["digital signature", "client auth"],
        asker: FOO,
        approved: false,
    }
}

fn serving(names: &[&str]) -> Wanted {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    Wanted {
        signer: SERVING,
        sans: CertificateParams::new(names).unwrap().subject_alt_names,
        usages: vec!["digital signature", "server auth"],
        ..client()
    }
}

impl Wanted {
    fn der(&self) -> Vec<u8> {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.subject_alt_names.clone_from(&self.sans);
        parameters.distinguished_name = DistinguishedName::new();
        // The library keeps one value of each type; the same type given by its OID counts as another one.
        let kinds = |plain: DnType, last: u64| [plain, DnType::CustomDnType(vec![2, 5, 4, last])];
        let organizations = kinds(DnType::OrganizationName, 10);
        for (kind, value) in organizations.into_iter().zip(&self.organizations) {
            parameters.distinguished_name.push(kind, *value);
        }
        for (kind, value) in kinds(DnType::CommonName, 3).into_iter().zip(&self.names) {
            parameters.distinguished_name.push(kind, *value);
        }
        let key = KeyPair::generate().unwrap();
        parameters.serialize_request(&key).unwrap().der().to_vec()
    }

    fn object(&self, name: &str, der: &[u8]) -> Value {
        let groups = match self.asker {
            "system:bootstrap:abc" => json!(["system:bootstrappers", "system:authenticated"]),
            asker if asker.starts_with("system:node:") => {
                json!(["system:nodes", "system:authenticated"])
            }
            _ => json!(["system:authenticated"]),
        };
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            base64(der)
        );
        let approved = json!([{"type": "Approved", "status": "True"}]);
        json!({
            "metadata": {"name": name, "uid": name},
            "spec": {
                "request": base64(pem.as_bytes()), "signerName": self.signer, "usages": self.usages,
                "username": self.asker, "groups": groups,
            },
            "status": if self.approved { json!({"conditions": approved}) } else { json!({}) },
        })
    }
}

const SELF: &str =
    "Approved: Auto approving self kubelet client certificate after SubjectAccessReview.";
const NODE: &str = "Approved: Auto approving kubelet client certificate after SubjectAccessReview.";
const ADDRESSES: &str =
    "Approved: Auto approving kubelet serving certificate for addresses of the node.";

/// With the Node `foo`, which claims many names, and another Node.
async fn world() -> World {
    let world = World::new().await;
    let mut node = ready_node("foo");
    let addresses = [
        ("Hostname", "foo"),
        ("InternalIP", "10.0.0.1"),
        ("InternalIP", "fd00::1"),
        ("ExternalDNS", "Foo.example.com"),
        ("ExternalIP", "10.0.0.9"),
        ("InternalDNS", "bar"),
        ("InternalDNS", "shared"),
        // What a lying kubelet would write.
        ("InternalDNS", "kubernetes"),
        ("InternalDNS", "kubernetes.default.svc"),
        ("InternalDNS", "localhost"),
        ("InternalDNS", "web.default.svc.cluster.local"),
        ("InternalDNS", "*.example.com"),
        ("InternalIP", "127.0.0.1"),
        ("InternalIP", "10.96.0.1"),
        ("InternalIP", "0.0.0.0"),
        ("InternalIP", "::1"),
    ];
    node["status"]["addresses"] = addresses
        .iter()
        .map(|(kind, address)| json!({"type": kind, "address": address}))
        .collect();
    world.do_it("POST /api/v1/nodes", node).await;
    let mut other = ready_node("bar");
    other["status"]["addresses"] = json!([
        {"type": "InternalIP", "address": "10.0.0.9"}, {"type": "Hostname", "address": "shared"},
    ]);
    world.do_it("POST /api/v1/nodes", other).await;
    world
}

/// The result: the first condition that was not there before, and whether there is a certificate.
async fn outcome(world: &World, name: &str, was_approved: bool) -> (String, bool) {
    let request = world
        .get(&format!(
            "/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}"
        ))
        .await;
    let conditions = object::list(&request, "/status/conditions");
    let new = conditions.get(usize::from(was_approved));
    let said = new.map(|c| {
        format!(
            "{}: {}",
            object::text(c, "/type"),
            object::text(c, "/message")
        )
    });
    (
        said.unwrap_or_default(),
        request["status"]["certificate"].is_string(),
    )
}

async fn check(rows: &[(&str, Wanted, &str)]) {
    let world = world().await;
    for (index, (_, wanted, _)) in rows.iter().enumerate() {
        world
            .put(STORAGE, wanted.object(&format!("r{index}"), &wanted.der()))
            .await;
    }
    world.settle().await;
    for (index, (what, wanted, expected)) in rows.iter().enumerate() {
        let (said, signed) = outcome(&world, &format!("r{index}"), wanted.approved).await;
        let (said_expected, signed_expected) = match *expected {
            "signed" => ("", true),
            words => (words, words.starts_with("Approved")),
        };
        assert_eq!(
            (said.as_str(), signed),
            (said_expected, signed_expected),
            "{what}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_certificate_is_approved_for_the_node_itself_or_a_bootstrapper() {
    let mut rows = vec![
        (
            "bootstrapper",
            Wanted {
                asker: "system:bootstrap:abc",
                ..client()
            },
            NODE,
        ),
        (
            "another node",
            Wanted {
                names: vec!["system:node:bar"],
                ..client()
            },
            "",
        ),
        (
            "somebody",
            Wanted {
                asker: "joe",
                ..client()
            },
            "",
        ),
        (
            "two organizations",
            Wanted {
                organizations: vec!["system:masters", "system:nodes"],
                ..client()
            },
            "",
        ),
        (
            "two organizations",
            Wanted {
                organizations: vec!["system:nodes", "system:masters"],
                ..client()
            },
            "",
        ),
        (
            "two names",
            Wanted {
                names: vec!["kubernetes-admin", FOO],
                ..client()
            },
            "",
        ),
        (
            "no digital signature",
            Wanted {
                usages: vec!["client auth"],
                ..client()
            },
            "",
        ),
        (
            "no client auth",
            Wanted {
                usages: vec!["digital signature"],
                ..client()
            },
            "",
        ),
        (
            "a DNS name",
            Wanted {
                sans: serving(&["foo"]).sans,
                ..client()
            },
            "",
        ),
        (
            "an address",
            Wanted {
                sans: serving(&["10.0.0.1"]).sans,
                ..client()
            },
            "",
        ),
        (
            "a usage twice",
            Wanted {
                usages: vec!["digital signature", "client auth", "client auth"],
                ..client()
            },
            SELF,
        ),
    ];
    for encipherment in [false, true] {
        let with = |mut wanted: Wanted| {
            wanted
                .usages
                .extend(encipherment.then_some("key encipherment"));
            wanted
        };
        rows.extend([
            ("own", with(client()), SELF),
            (
                "mike",
                with(Wanted {
                    names: vec!["mike"],
                    ..client()
                }),
                "",
            ),
            (
                "no organization",
                with(Wanted {
                    organizations: Vec::new(),
                    ..client()
                }),
                "",
            ),
            (
                "system:master",
                with(Wanted {
                    organizations: vec!["system:master"],
                    ..client()
                }),
                "",
            ),
            (
                "server auth too",
                with(Wanted {
                    usages: vec!["digital signature", "client auth", "server auth"],
                    ..client()
                }),
                "",
            ),
            (
                "other signer",
                with(Wanted {
                    signer: "example.com/not-correct",
                    ..client()
                }),
                "",
            ),
            (
                "serving signer",
                with(Wanted {
                    signer: SERVING,
                    ..client()
                }),
                "",
            ),
        ]);
    }
    check(&rows).await;
}

#[tokio::test(start_paused = true)]
async fn a_serving_certificate_is_approved_for_addresses_of_the_node_alone() {
    let mut rows = vec![
        ("own", serving(&["foo", "10.0.0.1", "fd00::1"]), ADDRESSES),
        ("in other letters", serving(&["foo.EXAMPLE.com"]), ADDRESSES),
        (
            "with encipherment",
            Wanted {
                usages: vec!["server auth", "key encipherment", "digital signature"],
                ..serving(&["foo"])
            },
            ADDRESSES,
        ),
        (
            "client auth too",
            Wanted {
                usages: vec!["server auth", "client auth", "digital signature"],
                ..serving(&["foo"])
            },
            "",
        ),
        (
            "another's name",
            Wanted {
                names: vec!["system:node:bar"],
                ..serving(&["shared"])
            },
            "",
        ),
        (
            "bootstrapper",
            Wanted {
                asker: "system:bootstrap:abc",
                ..serving(&["foo"])
            },
            "",
        ),
        ("no names", serving(&[]), ""),
    ];
    for strange in [
        "google.com",
        "10.0.0.2",
        "localhost",
        "kubernetes",
        "kubernetes.default.svc",
        "web.default.svc.cluster.local",
        "127.0.0.1",
        "10.96.0.1",
        "0.0.0.0",
        "::1",
        "*.example.com",
        // A name or address that another Node has.
        "bar",
        "shared",
        "10.0.0.9",
    ] {
        rows.push((strange, serving(&[strange]), ""));
        rows.push((strange, serving(&["foo", strange]), ""));
    }
    check(&rows).await;
}

#[tokio::test(start_paused = true)]
async fn what_somebody_approved_is_signed_when_it_is_well_formed() {
    let approved = |wanted: Wanted| Wanted {
        approved: true,
        ..wanted
    };
    let with = |san: SanType| {
        let mut wanted = serving(&["foo"]);
        wanted.sans.push(san);
        approved(wanted)
    };
    let mail = SanType::Rfc822Name("a@b.c".try_into().unwrap());
    let uri = SanType::URI("https://b.c".try_into().unwrap());
    check(&[
        (
            "client",
            approved(Wanted {
                names: vec!["system:node:hello-world"],
                ..client()
            }),
            "signed",
        ),
        ("serving", approved(serving(&["example.com"])), "signed"),
        (
            "no org",
            approved(Wanted {
                organizations: vec!["some-org"],
                ..client()
            }),
            "Failed: subject organization is not system:nodes",
        ),
        (
            "two orgs",
            approved(Wanted {
                organizations: vec!["system:masters", "system:nodes"],
                ..client()
            }),
            "Failed: subject organization is not system:nodes",
        ),
        (
            "two names",
            approved(Wanted {
                names: vec!["admin", FOO],
                ..client()
            }),
            "Failed: more than one common name",
        ),
        (
            "name",
            approved(Wanted {
                names: vec!["hello-world"],
                ..client()
            }),
            "Failed: subject common name does not begin with system:node:",
        ),
        (
            "usages",
            approved(Wanted {
                usages: vec!["server auth"],
                ..client()
            }),
            "Failed: usages did not match [client auth digital signature key encipherment]",
        ),
        (
            "usages",
            approved(Wanted {
                usages: Vec::new(),
                ..serving(&["foo"])
            }),
            "Failed: usages did not match [digital signature key encipherment server auth]",
        ),
        (
            "dns",
            approved(Wanted {
                sans: serving(&["foo"]).sans,
                ..client()
            }),
            "Failed: DNS subjectAltNames are not allowed",
        ),
        (
            "ip",
            approved(Wanted {
                sans: serving(&["10.0.0.1"]).sans,
                ..client()
            }),
            "Failed: IP subjectAltNames are not allowed",
        ),
        (
            "mail",
            approved(Wanted {
                sans: vec![mail.clone()],
                ..client()
            }),
            "Failed: Email subjectAltNames are not allowed",
        ),
        (
            "uri",
            approved(Wanted {
                sans: vec![uri.clone()],
                ..client()
            }),
            "Failed: URI subjectAltNames are not allowed",
        ),
        (
            "no names",
            approved(serving(&[])),
            "Failed: DNS or IP subjectAltName is required",
        ),
        (
            "mail",
            with(mail),
            "Failed: Email subjectAltNames are not allowed",
        ),
        (
            "uri",
            with(uri),
            "Failed: URI subjectAltNames are not allowed",
        ),
        (
            "not recognised",
            approved(Wanted {
                signer: "kubernetes.io/not-recognised",
                ..client()
            }),
            "",
        ),
        (
            "example.com",
            approved(Wanted {
                signer: "example.com/sample-name",
                ..client()
            }),
            "",
        ),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_address_written_as_a_name_is_no_name() {
    let named = |name: &str| Wanted {
        sans: vec![SanType::DnsName(name.try_into().unwrap())],
        ..serving(&[])
    };
    let approved = |wanted: Wanted| Wanted {
        approved: true,
        ..wanted
    };
    let mut rows = Vec::new();
    for address in ["127.0.0.1", "10.96.0.1", "::1", "10.0.0.1"] {
        rows.push((address, named(address), ""));
        let why = "Failed: a DNS subjectAltName is an IP address";
        rows.push((address, approved(named(address)), why));
    }
    rows.push(("a name", approved(named("foo")), "signed"));
    check(&rows).await;
}

#[tokio::test(start_paused = true)]
async fn the_servers_own_names_are_no_other_nodes() {
    for (asker, is_signed) in [("foo", false), ("own", true)] {
        let world = World::made(Limits::default(), |parts| {
            let names = ["own", "api.example.com", "10.9.9.9"].map(str::to_owned);
            parts.identity.server_names = names.to_vec();
            parts.identity.node = "own".to_owned();
        });
        world.settle().await;
        let mut node = ready_node(asker);
        // To a client, the mapped form is the same address.
        let names = ["own", "api.example.com", "::ffff:10.9.9.9"];
        let addresses = names.map(|name| json!({"type": "InternalDNS", "address": name}));
        node["status"]["addresses"] = addresses.to_vec().into();
        world.do_it("POST /api/v1/nodes", node).await;
        let user = format!("system:node:{asker}");
        for (index, name) in ["own", "api.example.com", "10.9.9.9", "::ffff:10.9.9.9"]
            .iter()
            .enumerate()
        {
            let wanted = Wanted {
                asker: user.clone().leak(),
                names: vec![user.clone().leak()],
                ..serving(&[name])
            };
            let object = wanted.object(&format!("r{index}"), &wanted.der());
            world.put(STORAGE, object).await;
        }
        world.settle().await;
        for index in 0..4 {
            let (_, signed) = outcome(&world, &format!("r{index}"), false).await;
            assert_eq!(signed, is_signed, "{asker} {index}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_only_looks_like_the_clusters_is_a_nodes() {
    let world = World::new().await;
    let names = ["kubernetes.example.com", "n1.svc.company.com", "foo"];
    let mut node = ready_node("foo");
    node["status"]["addresses"] = names
        .iter()
        .chain(&["kubernetes.default", "kubernetes.default.svc", "a.b.svc"])
        .chain(&["kubernetes.default.svc.example.org", "n.localhost"])
        .map(|name| json!({"type": "InternalDNS", "address": name}))
        .collect();
    world.do_it("POST /api/v1/nodes", node).await;
    let rows = [
        ("kubernetes.example.com", true),
        ("n1.svc.company.com", true),
        ("kubernetes.default", false),
        ("kubernetes.default.svc", false),
        ("a.b.svc", false),
        ("kubernetes.default.svc.example.org", false),
        ("n.localhost", false),
    ];
    for (index, (name, _)) in rows.iter().enumerate() {
        let wanted = serving(&[name]);
        let object = wanted.object(&format!("r{index}"), &wanted.der());
        world.put(STORAGE, object).await;
    }
    world.settle().await;
    for (index, (name, is_signed)) in rows.iter().enumerate() {
        let (_, signed) = outcome(&world, &format!("r{index}"), false).await;
        assert_eq!(signed, *is_signed, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_written_holds_up_no_other() {
    let world = world().await;
    let mut broken = client().object("a-broken", &client().der());
    // The kind's own validation refuses every change of it.
    broken["spec"]["extra"] = json!(7);
    world.put(STORAGE, broken).await;
    let wanted = client();
    world
        .put(STORAGE, wanted.object("b-whole", &wanted.der()))
        .await;
    world.settle().await;
    assert!(outcome(&world, "b-whole", false).await.1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_left_is_looked_at_again_when_addresses_change() {
    let world = world().await;
    let late = async |path: &str, body: Value| {
        if !path.is_empty() {
            world.do_it(path, body).await;
        }
        // Longer than the interval between passes without changes.
        tokio::time::sleep(Duration::from_secs(40)).await;
        let (said, signed) = outcome(&world, "late", false).await;
        let (_, shared) = outcome(&world, "shared", false).await;
        (said, signed, shared)
    };
    let work = async {
        for (name, wanted) in [
            ("late", serving(&["late.example.com"])),
            ("shared", serving(&["10.0.0.9"])),
        ] {
            world.put(STORAGE, wanted.object(name, &wanted.der())).await;
        }
        assert_eq!(late("", Value::Null).await, (String::new(), false, false));
        let more = json!({"status": {"addresses": [{"type": "InternalDNS", "address": "late.example.com"}]}});
        let patch = "PATCH /api/v1/nodes/foo/status";
        assert_eq!(late(patch, more).await, (ADDRESSES.to_owned(), true, false));
        let back =
            json!({"status": {"addresses": [{"type": "ExternalIP", "address": "10.0.0.9"}]}});
        late(patch, back).await;
        // The other Node that had it is deleted.
        let gone = late("DELETE /api/v1/nodes/bar", Value::Null).await;
        assert_eq!(gone, (ADDRESSES.to_owned(), true, true));
    };
    tokio::select! {
        () = work => {}
        () = world.server.run(world.stop.clone()) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn requests_go_when_their_time_is_over() {
    let world = world().await;
    let ago = |seconds: i64| object::time(jiff::Timestamp::from_second(NOON - seconds).unwrap());
    let request = |name: &str, kind: &str, seconds: i64, certificate: &str| {
        let mut made = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": ago(seconds)},
            "spec": {"request": "eA==", "signerName": "example.com/x", "usages": ["client auth"]},
            "status": {},
        });
        if !kind.is_empty() {
            let condition =
                json!([{"type": kind, "status": "True", "lastUpdateTime": ago(seconds)}]);
            made["status"]["conditions"] = condition;
        }
        if !certificate.is_empty() {
            made["status"]["certificate"] = certificate.into();
        }
        made
    };
    let ended = |seconds: i64| {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let at = (NOON + seconds).unsigned_abs();
        parameters.not_after = epoch + Duration::from_secs(at);
        let key = KeyPair::generate().unwrap();
        base64(parameters.self_signed(&key).unwrap().pem().as_bytes())
    };
    let hour = 3600;
    let rows = [
        ("issued", "Approved", hour + 1, "eA==", true),
        ("issued-young", "Approved", hour - 1, "eA==", false),
        ("issued-expired", "Approved", 60, &*ended(-1), true),
        ("issued-good", "Approved", 60, &*ended(60), false),
        ("unissued", "Approved", 24 * hour + 1, "", true),
        ("unissued-young", "Approved", hour + 1, "", false),
        ("denied", "Denied", hour + 1, "", true),
        ("denied-young", "Denied", hour - 1, "", false),
        ("failed", "Failed", hour + 1, "", true),
        ("pending", "", 24 * hour + 1, "", true),
        ("pending-young", "", 24 * hour - 1, "", false),
    ];
    for (name, kind, seconds, certificate, _) in rows {
        let made = request(name, kind, seconds, certificate);
        world.put(STORAGE, made).await;
    }
    world.settle().await;
    for (name, _, _, _, is_gone) in rows {
        let path = format!("GET /apis/certificates.k8s.io/v1/certificatesigningrequests/{name}");
        let (code, _) = world.ask(&path, Value::Null).await;
        assert_eq!(code == 404, is_gone, "{name}: {code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_forged_request_is_signed_by_nobody_and_a_greedy_one_gets_what_was_looked_at() {
    let world = world().await;
    let mut forged = client().der();
    *forged.last_mut().unwrap() ^= 1;
    let mut longer = client().der();
    longer.push(0);
    let approved = Wanted {
        approved: true,
        ..client()
    };
    world.put(STORAGE, approved.object("forged", &forged)).await;
    world.put(STORAGE, approved.object("longer", &longer)).await;
    world
        .put(STORAGE, approved.object("cut", &longer[..40]))
        .await;
    let mut greedy = CertificateParams::new(vec!["foo".to_owned()]).unwrap();
    greedy.distinguished_name = DistinguishedName::new();
    greedy
        .distinguished_name
        .push(DnType::OrganizationName, "system:nodes");
    greedy
        .distinguished_name
        .push(DnType::OrganizationalUnitName, "system:masters");
    greedy.distinguished_name.push(DnType::CommonName, FOO);
    greedy.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    greedy.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    greedy.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let der = greedy
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap()
        .der()
        .to_vec();
    world
        .put(STORAGE, serving(&[]).object("greedy", &der))
        .await;
    world.settle().await;
    for name in ["forged", "longer", "cut"] {
        let (said, signed) = outcome(&world, name, true).await;
        assert!(said.starts_with("Failed: ") && !signed, "{name}: {said}");
    }
    assert_eq!(
        outcome(&world, "greedy", false).await,
        (ADDRESSES.to_owned(), true)
    );
    let made = world
        .get("/apis/certificates.k8s.io/v1/certificatesigningrequests/greedy")
        .await;
    let pem = from_base64(made["status"]["certificate"].as_str().unwrap()).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let certificate = pem.parse_x509().unwrap();
    assert_eq!(
        certificate.subject().to_string(),
        format!("O=system:nodes, CN={FOO}")
    );
    assert!(!certificate.is_ca());
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let extended = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && !extended.client_auth);
}

#[tokio::test]
async fn a_kubelet_asks_for_a_certificate_in_its_own_name() {
    let world = World::new().await;
    let line = "POST /apis/certificates.k8s.io/v1/certificatesigningrequests";
    let bar = || vec!["system:node:bar"];
    for (name, wanted, code, words) in [
        ("serving", serving(&["foo"]), 201, ""),
        ("client", client(), 201, ""),
        (
            "elsewhere",
            Wanted {
                signer: "example.com/x",
                names: bar(),
                ..client()
            },
            201,
            "",
        ),
        (
            "other-serving",
            Wanted {
                names: bar(),
                ..serving(&["foo"])
            },
            403,
            "is forbidden: can only create a node CSR with CN=system:node:foo",
        ),
        (
            "other-client",
            Wanted {
                names: bar(),
                ..client()
            },
            403,
            "is forbidden: can only create a node CSR with CN=system:node:foo",
        ),
    ] {
        let sent = wanted.object(name, &wanted.der());
        let (got, answer) = world.ask_as(&User::node("foo"), line, sent).await;
        let said = answer["message"].as_str().unwrap_or_default();
        assert!(got == code && said.contains(words), "{name}: {got} {said}");
    }
    let broken = client().object("broken", &client().der()[..50]);
    let (code, answer) = world.ask_as(&User::node("foo"), line, broken).await;
    let said = answer["message"].as_str().unwrap_or_default();
    assert!(
        code == 403 && said.contains("unable to parse csr: "),
        "{said}"
    );
}

#[tokio::test]
async fn who_is_no_administrator_has_so_many_requests_at_a_time() {
    let world = World::new().await;
    let node = User::node("n");
    let storage = "certificatesigningrequests.certificates.k8s.io";
    for number in 0..500 {
        let metadata = json!({"name": format!("r{number}")});
        let made =
            json!({"metadata": metadata, "spec": {"username": node.name, "signerName": "a/b"}});
        world.put(storage, made).await;
    }
    let line = "POST /apis/certificates.k8s.io/v1/certificatesigningrequests";
    let request = json!({"metadata": {"name": "more"}, "spec": {"signerName": "a/b", "usages": ["client auth"]}});
    let codes = async || {
        let mut codes = Vec::new();
        for who in [&node, &User::node("other"), &User::admin()] {
            codes.push(world.ask_as(who, line, request.clone()).await.0);
        }
        codes
    };
    let (code, answer) = world.ask_as(&node, line, request.clone()).await;
    assert_eq!(code, 429, "{answer}");
    let said = answer["message"].as_str().unwrap();
    assert!(
        said.contains("has 500 certificate signing requests"),
        "{said}"
    );
    let others = codes().await;
    assert_eq!(others[0], 429);
    assert_ne!(others[1], 429);
    assert_ne!(others[2], 429);
    let gone = format!("DELETE {}/r7", line.split_once(' ').unwrap().1);
    world.do_it(&gone, Value::Null).await;
    assert_ne!(codes().await[0], 429);
}
