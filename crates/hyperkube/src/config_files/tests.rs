//! Configuration files, drop-ins and flags: the result, and the errors.
//!
//! Upstream: cmd/kubelet/app/server_test.go, pkg/kubelet/kubeletconfig/configfiles/configfiles_test.go

use super::*;
use serde_json::json;

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

/// A temporary directory, deleted at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let path =
            std::env::temp_dir().join(format!("hyperkube-config-{}-{name}", std::process::id()));
        let folder = Self(path);
        for (file, text) in files {
            let file = folder.0.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        folder
    }

    /// Loads with `{}` in the arguments replaced by the directory.
    fn load(&self, arguments: &str) -> Result<Loaded, ConfigError> {
        let arguments = arguments.replace("{}", &self.0.to_string_lossy());
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        load(
            &crate::flags::parse(&arguments)?,
            HostFacts { cgroup_v2: true },
        )
    }

    fn field(&self, arguments: &str, pointer: &str) -> Value {
        let loaded = self
            .load(arguments)
            .unwrap_or_else(|error| panic!("{arguments}: {error}"));
        let config = serde_json::to_value(loaded.config).unwrap();
        config.pointer(pointer).cloned().unwrap_or(Value::Null)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[test]
fn configz_equals_the_recorded_one() {
    let recorded: Value =
        serde_json::from_str(include_str!("../../../../parity/configz.json")).unwrap();
    let recorded = &recorded["kubeletconfig"];
    let fields = [
        "staticPodPath",
        "readOnlyPort",
        "tlsCertFile",
        "tlsPrivateKeyFile",
        "authentication",
        "authorization",
        "maxPods",
        "podCIDR",
        "resolvConf",
        "serializeImagePulls",
        "containerRuntimeEndpoint",
        "failCgroupV1",
    ];
    let mut file =
        json!({"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"});
    for field in fields {
        file[field] = recorded[field].clone();
    }
    let folder = Folder::new("configz", &[("config.json", &file.to_string())]);
    let loaded = folder.load("--config={}/config.json --v=2").unwrap();
    let printed = serde_json::to_string_pretty(&loaded.config).unwrap();
    let recorded_text = include_str!("../../../../parity/configz.json");
    // Compares the fields in order; only the indentation differs.
    let lines =
        |text: &str| -> Vec<String> { text.lines().map(|line| line.trim().to_owned()).collect() };
    let recorded_lines = lines(recorded_text);
    let begin = 2;
    let end = recorded_lines.len() - 2;
    let printed = lines(&printed);
    assert_eq!(printed[1..printed.len() - 1], recorded_lines[begin..end]);
}

#[test]
fn defaults_give_way_to_the_file_the_file_to_drop_ins_and_those_to_flags() {
    let folder = Folder::new(
        "precedence",
        &[
            (
                "config.yaml",
                &format!(
                    "{HEAD}maxPods: 1\nport: 1\npodsPerCore: 1\nfeatureGates: {{MemoryQoS: true, PodsAPI: true}}\n"
                ),
            ),
            (
                "d/20-b.conf",
                &format!("{HEAD}maxPods: 3\nport: 3\nfeatureGates: {{PodsAPI: false}}\n"),
            ),
            ("d/10-a.conf", &format!("{HEAD}maxPods: 2\neventBurst: 2\n")),
            ("d/30/c.conf", &format!("{HEAD}eventBurst: null\n")),
            ("d/note.txt", "not read"),
        ],
    );
    let file = "--config={}/config.yaml";
    let both = "--config={}/config.yaml --config-dir={}/d";
    let all =
        "--config={}/config.yaml --config-dir={}/d --max-pods=4 --feature-gates=MemoryQoS=false";
    let rows = [
        ("", "/maxPods", json!(110)),
        ("", "/readOnlyPort", json!(10255)),
        ("", "/evictionHard", json!(null)),
        (file, "/maxPods", json!(1)),
        (file, "/readOnlyPort", json!(null)),
        (file, "/authorization/mode", json!("Webhook")),
        (file, "/evictionHard/memory.available", json!("100Mi")),
        (both, "/maxPods", json!(3)),
        (both, "/port", json!(3)),
        (both, "/podsPerCore", json!(1)),
        (both, "/eventBurst", json!(100)),
        (
            both,
            "/featureGates",
            json!({"MemoryQoS": true, "PodsAPI": false}),
        ),
        (all, "/maxPods", json!(4)),
        (all, "/port", json!(3)),
        (
            all,
            "/featureGates",
            json!({"MemoryQoS": false, "PodsAPI": false}),
        ),
        ("--config-dir={}/d", "/readOnlyPort", json!(10255)),
        ("--config-dir={}/d --max-pods=4", "/maxPods", json!(4)),
    ];
    for (arguments, pointer, value) in rows {
        assert_eq!(
            folder.field(arguments, pointer),
            value,
            "{arguments} {pointer}"
        );
    }
    let skipped = folder.load(both).unwrap().skipped;
    assert_eq!(skipped, [folder.0.join("d/note.txt")]);
}

#[test]
fn relative_paths_start_at_the_files_directory() {
    let text = format!(
        "{HEAD}staticPodPath: manifests\nresolvConf: ../resolv.conf\nauthentication: {{x509: {{clientCAFile: ./ca.crt}}}}\n"
    );
    let folder = Folder::new("paths", &[("etc/config.yaml", &text)]);
    let at = |path: &str| json!(folder.0.join(path).to_string_lossy());
    for (pointer, path) in [
        ("/staticPodPath", at("etc/manifests")),
        ("/resolvConf", at("resolv.conf")),
        ("/authentication/x509/clientCAFile", at("etc/ca.crt")),
        ("/podLogsDir", json!("/var/log/pods")),
    ] {
        assert_eq!(folder.field("--config={}/etc/config.yaml", pointer), path);
    }
}

#[test]
fn unknown_and_doubled_fields_are_taken_with_a_warning() {
    let text = format!(
        "{HEAD}maxPods: 1\nnonsense: 1\nauthentication:\n  webhook:\n    bogus: 1\ntracing:\n  odd: 1\nmaxPods: 2\n"
    );
    let folder = Folder::new("lenient", &[("config.yaml", &text)]);
    let loaded = folder.load("--config={}/config.yaml").unwrap();
    assert_eq!(loaded.config.max_pods, Some(2));
    let [warning] = loaded.warnings.as_slice() else {
        panic!("{:?}", loaded.warnings)
    };
    for part in [
        "Using lenient decoding as strict decoding failed",
        "line 10: key \"maxPods\" already set in map",
        "line 4: unknown field \"nonsense\"",
        "line 7: unknown field \"authentication.webhook.bogus\"",
        "line 9: unknown field \"tracing.odd\"",
    ] {
        assert!(warning.contains(part), "{part} in {warning}");
    }
}

#[test]
fn faults_name_the_file_the_line_and_the_field() {
    let rows: &[(&str, &[&str])] = &[
        ("", &["was empty"]),
        ("kind: [", &["failed to decode: yaml:"]),
        ("maxPods: 5\n", &["Object 'Kind' is missing in 'maxPods: 5"]),
        (
            "kind: KubeletConfiguration\n",
            &["Object 'apiVersion' is missing in"],
        ),
        (
            "kind: Pod\napiVersion: v1\n",
            &["no kind \"Pod\" is registered for version \"v1\" in scheme"],
        ),
        (
            "@maxPods: many\nsyncFrequency: 5\nauthentication:\n  webhook:\n    cacheTTL: 1d\nclusterDNS: [1]\n",
            &[
                "line 3: maxPods: invalid type: string \"many\", expected i32",
                "line 4: syncFrequency: invalid type: integer `5`, expected a string",
                "line 7: authentication.webhook.cacheTTL: time: unknown unit \"d\" in duration \"1d\"",
                "line 8: clusterDNS[0]: invalid type: integer `1`, expected a string",
            ],
        ),
        (
            "@maxPods: -1\nport: 70000\n",
            &[
                "[invalid configuration: maxPods (--max-pods) -1 must not be a negative number, invalid configuration: port (--port) 70000",
            ],
        ),
        ("@containerLogMaxSize: big\n", &["invalid quantity \"big\""]),
        (
            "@featureGates: {Odd: true}\nmaxPods: -1\n",
            &["unrecognized feature gate: Odd", "maxPods (--max-pods) -1"],
        ),
    ];
    for (index, (text, parts)) in rows.iter().enumerate() {
        let text = text.replace('@', HEAD);
        let folder = Folder::new(&format!("faults-{index}"), &[("config.yaml", &text)]);
        let error = folder
            .load("--config={}/config.yaml")
            .unwrap_err()
            .to_string();
        for part in *parts {
            assert!(error.contains(part), "{part:?} in {error:?}");
        }
    }
}

#[test]
fn faulty_drop_ins_and_directories_are_named() {
    let rows = [
        ("maxPods: 5\n", "Object 'Kind' is missing"),
        (
            "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1\n",
            "registered for version \"kubelet.config.k8s.io/v1\"",
        ),
        ("@maxPods: 1\nmaxPods: 2\n", "strict decoding error"),
        ("@maxPods: x\n", "line 3: maxPods"),
    ];
    for (index, (text, part)) in rows.iter().enumerate() {
        let text = text.replace('@', HEAD);
        let folder = Folder::new(&format!("drop-in-{index}"), &[("d/a.conf", &text)]);
        let error = folder.load("--config-dir={}/d").unwrap_err().to_string();
        assert!(
            error.contains("d/a.conf") && error.contains(part),
            "{part:?} in {error:?}"
        );
    }
    let folder = Folder::new("no-directory", &[]);
    let error = folder.load("--config-dir={}/d").unwrap_err().to_string();
    assert!(
        error.contains("failed to walk through kubelet dropin directory"),
        "{error}"
    );
    let error = folder.load("--config={}/none").unwrap_err().to_string();
    assert!(
        error.contains("failed to read kubelet config file"),
        "{error}"
    );
}

#[test]
fn yaml_scalars_are_read_as_go_reads_them() {
    let text = format!(
        "{HEAD}failSwapOn: off\nmaxPods: 0144\nresolvConf: \"\"\nsystemReserved: {{cpu: '1', memory: 1Gi}}\n"
    );
    let folder = Folder::new("scalars", &[("config.yaml", &text)]);
    let loaded = folder.load("--config={}/config.yaml").unwrap();
    assert_eq!(loaded.config.fail_swap_on, Some(false));
    assert_eq!(loaded.config.max_pods, Some(100));
    assert_eq!(loaded.config.resolv_conf.as_deref(), Some(""));
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = format!("{HEAD}a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let below = level - 1;
        let list = vec![format!("*a{below}"); 9].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{list}]\n"));
    }
    let error = Document::parse(text).unwrap_err().to_string();
    assert!(error.starts_with("failed to decode: yaml:"), "{error}");
}
