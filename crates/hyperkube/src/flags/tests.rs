//! The table compared with the recorded one, and command lines as Go parses them.
//!
//! Upstream: recorded from `kubelet --help` of 1.36.2; component-base/cli/flag tests

use super::*;
use kubelet_decide::config::defaults::{defaults, without_file};
use kubelet_model::gates::Gates;
use serde_json::json;

/// Flags whose type is not visible in the recording, and our own.
const NOT_RECORDED: [&str; 5] = [
    "fast-first-probe",
    "register-with-taints",
    "reserved-memory",
    "version",
    "vmodule",
];

fn read(line: &str) -> Result<CommandLine, CommandLineError> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    parse(&words)
}

fn baseline() -> KubeletConfiguration {
    without_file(defaults(KubeletConfiguration::default(), &Gates::default()))
}

#[test]
fn the_table_is_the_recorded_one() {
    let recorded = include_str!("../../../../parity/flags.tsv");
    let recorded: Vec<&str> = recorded
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let ours: Vec<String> = table()
        .into_iter()
        .filter(|flag| !NOT_RECORDED.contains(&flag.name))
        .map(|flag| {
            let deprecated = if flag.deprecated.is_some() {
                "deprecated"
            } else {
                ""
            };
            format!(
                "--{}\t{}\t{}\t{deprecated}",
                flag.name,
                flag.type_name(),
                flag.default
            )
        })
        .collect();
    let pad = |line: &&str| {
        let mut cells: Vec<&str> = line.split('\t').collect();
        cells.resize(4, "");
        cells.join("\t")
    };
    let recorded: Vec<String> = recorded.iter().map(pad).collect();
    assert_eq!(ours, recorded);
}

#[test]
fn every_default_of_the_table_is_the_one_that_applies() {
    let config = serde_json::to_value(baseline()).unwrap();
    let own = serde_json::to_value(Flags::default()).unwrap();
    for flag in table() {
        let value = match flag.effect {
            Effect::Config(pointer) => config.pointer(pointer).cloned(),
            Effect::Flag(field) => Some(own[field].clone()),
            Effect::Ignored | Effect::Help | Effect::Version => continue,
        };
        let shown = match value.unwrap_or(Value::Null) {
            Value::Null | Value::Bool(false) => String::new(),
            Value::String(text) if text.is_empty() => text,
            Value::String(text) => match flag.kind {
                Kind::Text | Kind::Path => format!("{text:?}"),
                _ if text == "0s" || text == "0" => String::new(),
                _ => text,
            },
            Value::Number(number) if number.as_i64() == Some(0) => String::new(),
            Value::Array(list) => {
                let list: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
                format!("[{}]", list.join(","))
            }
            Value::Object(map) if map.is_empty() => String::new(),
            other => other.to_string(),
        };
        assert_eq!(flag.default, shown, "--{}", flag.name);
    }
}

#[test]
fn every_flag_can_be_set_and_lands_in_its_field() {
    for flag in table() {
        let text = match flag.kind {
            Kind::Bool => "true",
            Kind::Int32 | Kind::Int64 | Kind::Level | Kind::Quantity => "7",
            Kind::Text | Kind::Path | Kind::Strings => "x",
            Kind::Duration => "7s",
            Kind::Map | Kind::SingleMap | Kind::LooseMap => "a=b",
            Kind::LangleMap => "a<b",
            Kind::Gates => "MemoryQoS=true",
            Kind::Multimap => "a:b",
            Kind::Ip => "127.0.0.7",
            Kind::VModule => "a=7",
            Kind::ReservedMemory => "0:memory=1Gi",
            Kind::Taints => "a=b:NoSchedule",
            Kind::Version => "raw",
        };
        let line = parse(&[format!("--{}={text}", flag.name)]).unwrap();
        match flag.effect {
            Effect::Config(pointer) => {
                let config = serde_json::to_value(line.over(&baseline())).unwrap();
                assert_eq!(
                    config.pointer(pointer),
                    line.fields.get(pointer),
                    "--{}",
                    flag.name
                );
            }
            Effect::Flag(field) => {
                let (set, unset) = (line.flags, Flags::default());
                let (set, unset) = (
                    serde_json::to_value(set).unwrap(),
                    serde_json::to_value(unset).unwrap(),
                );
                assert_ne!(set[field], unset[field], "--{}", flag.name);
            }
            Effect::Ignored => {}
            Effect::Help => assert_eq!(line.request, Request::Help),
            Effect::Version => assert_eq!(line.request, Request::RawVersion),
        }
    }
}

#[test]
fn values_are_read_as_go_reads_them() {
    let rows = [
        ("--v=2", "/logging/verbosity", json!(2)),
        ("--v 2", "/logging/verbosity", json!(2)),
        ("-v 2", "/logging/verbosity", json!(2)),
        ("-v=2", "/logging/verbosity", json!(2)),
        ("-v2", "/logging/verbosity", json!(2)),
        ("-v=2 -v=4", "/logging/verbosity", json!(4)),
        ("--fail-swap-on", "/failSwapOn", json!(true)),
        ("--fail-swap-on=false", "/failSwapOn", json!(false)),
        ("--fail_swap_on=F", "/failSwapOn", json!(false)),
        ("--max-pods=0x10", "/maxPods", json!(16)),
        ("--max-pods 010", "/maxPods", json!(8)),
        ("--oom-score-adj -5", "/oomScoreAdj", json!(-5)),
        ("--sync-frequency=1.5m", "/syncFrequency", json!("1m30s")),
        (
            "--feature-gates=A=true,B=false --feature-gates=B=1",
            "/featureGates",
            json!({"A": true, "B": true}),
        ),
        (
            "--cluster-dns=10.0.0.1,10.0.0.2 --cluster-dns=10.0.0.3",
            "/clusterDNS",
            json!(["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
        ),
        (
            "--cluster-dns=\"a,b\",c",
            "/clusterDNS",
            json!(["a,b", "c"]),
        ),
        (
            "--eviction-hard=a<1,b<2 --eviction-hard=b<3",
            "/evictionHard",
            json!({"a": "1", "b": "3"}),
        ),
        (
            "--system-reserved=cpu=1,memory=2Gi",
            "/systemReserved",
            json!({"cpu": "1", "memory": "2Gi"}),
        ),
        (
            "--cpu-manager-policy-options=a=b,c=d",
            "/cpuManagerPolicyOptions",
            json!({"a": "b,c=d"}),
        ),
        (
            "--manifest-url-header a:hello,b:again,c:world --manifest-url-header=b:beautiful",
            "/staticPodURLHeader",
            json!({"a": ["hello"], "b": ["again", "beautiful"], "c": ["world"]}),
        ),
        (
            "--vmodule=a*=3,b=4",
            "/logging/vmodule",
            json!([{"filePattern": "a*", "verbosity": 3}, {"filePattern": "b", "verbosity": 4}]),
        ),
        (
            "--reserved-memory=0:memory=1Gi,hugepages-2Mi=2Gi;1:memory=1",
            "/reservedMemory",
            json!([{"numaNode": 0, "limits": {"hugepages-2Mi": "2Gi", "memory": "1Gi"}}, {"numaNode": 1, "limits": {"memory": "1"}}]),
        ),
        (
            "--register-with-taints=a=b:NoSchedule,c:NoExecute",
            "/registerWithTaints",
            json!([{"key": "a", "value": "b", "effect": "NoSchedule"}, {"key": "c", "value": "", "effect": "NoExecute"}]),
        ),
        ("--address=::", "/address", json!("::")),
    ];
    for (line, pointer, value) in rows {
        let read = read(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(read.fields.get(pointer), Some(&value), "{line}");
    }
}

#[test]
fn faults_are_told_in_pflags_words() {
    let rows = [
        (
            "--nonsense",
            "failed to parse kubelet flag: unknown flag: --nonsense",
        ),
        (
            "--nonsense=1",
            "failed to parse kubelet flag: unknown flag: --nonsense",
        ),
        (
            "-x",
            "failed to parse kubelet flag: unknown shorthand flag: 'x' in -x",
        ),
        (
            "--config",
            "failed to parse kubelet flag: flag needs an argument: --config",
        ),
        (
            "-v",
            "failed to parse kubelet flag: flag needs an argument: 'v' in -v",
        ),
        (
            "--=1",
            "failed to parse kubelet flag: bad flag syntax: --=1",
        ),
        ("run", "unknown command run"),
        ("--v=2 -- --v=3", "unknown command --v=3"),
        (
            "--port=x",
            "failed to parse kubelet flag: invalid argument \"x\" for \"--port\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "--port=99999999999",
            "failed to parse kubelet flag: invalid argument \"99999999999\" for \"--port\" flag: strconv.ParseInt: parsing \"99999999999\": value out of range",
        ),
        (
            "--fail-swap-on=maybe",
            "failed to parse kubelet flag: invalid argument \"maybe\" for \"--fail-swap-on\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
        (
            "--sync-frequency=5",
            "failed to parse kubelet flag: invalid argument \"5\" for \"--sync-frequency\" flag: time: missing unit in duration \"5\"",
        ),
        (
            "-v=x",
            "failed to parse kubelet flag: invalid argument \"x\" for \"-v, --v\" flag: strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        (
            "--feature-gates=A",
            "failed to parse kubelet flag: invalid argument \"A\" for \"--feature-gates\" flag: malformed pair, expect string=bool",
        ),
        (
            "--feature-gates=A=x",
            "failed to parse kubelet flag: invalid argument \"A=x\" for \"--feature-gates\" flag: invalid value of A: x, err: strconv.ParseBool: parsing \"x\": invalid syntax",
        ),
        (
            "--address=here",
            "failed to parse kubelet flag: invalid argument \"here\" for \"--address\" flag: \"here\" is not a valid IP address",
        ),
        (
            "--vmodule=a",
            "failed to parse kubelet flag: invalid argument \"a\" for \"--vmodule\" flag: \"a\" does not have the pattern=N format",
        ),
    ];
    for (line, words) in rows {
        assert_eq!(read(line).unwrap_err().to_string(), words, "{line}");
    }
}

#[test]
fn deprecated_flags_are_taken_with_upstreams_warning() {
    let line =
        read("--max-pods=5 --root-dir=/x --maximum-dead-containers=2 --containerd=x").unwrap();
    assert_eq!(
        line.warnings,
        [
            format!("Flag --max-pods has been deprecated, {FILE_INSTEAD}"),
            format!("Flag --maximum-dead-containers has been deprecated, {EVICTION_INSTEAD}"),
            format!("Flag --containerd has been deprecated, {CADVISOR}"),
        ]
    );
    assert_eq!(line.flags.root_dir, "/x");
    assert_eq!(line.flags.maximum_dead_containers, 2);
}

#[test]
fn gates_merge_key_by_key_and_other_maps_are_replaced() {
    let file: KubeletConfiguration = serde_json::from_value(json!({
        "featureGates": {"A": true, "B": true}, "systemReserved": {"cpu": "1", "memory": "1Gi"}, "maxPods": 7,
        "logging": {"vmodule": [{"filePattern": "a", "verbosity": 1}]},
    }))
    .unwrap();
    let over =
        read("--feature-gates=B=false,C=true --system-reserved=cpu=2 --vmodule=b=2 --vmodule=c=3")
            .unwrap()
            .over(&file);
    let over = serde_json::to_value(over).unwrap();
    assert_eq!(
        over["featureGates"],
        json!({"A": true, "B": false, "C": true})
    );
    assert_eq!(over["systemReserved"], json!({"cpu": "2"}));
    // The only list that is appended to, as by upstream's flag.
    let patterns: Vec<&Value> = over["logging"]["vmodule"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| &rule["filePattern"])
        .collect();
    assert_eq!(patterns, ["a", "b", "c"]);
    assert_eq!(over["maxPods"], json!(7));
}

#[test]
fn help_and_version_are_asked_for() {
    for (line, request) in [
        ("", Request::Run),
        ("--help", Request::Help),
        ("-h", Request::Help),
        ("--help=false", Request::Run),
        ("--version", Request::Version),
        ("--version=false", Request::Run),
        ("--version=raw", Request::RawVersion),
    ] {
        assert_eq!(read(line).unwrap().request, request, "{line}");
    }
    assert_eq!(version(Request::Version), "Kubernetes v1.36.2+hyperkube.1");
    let help = help();
    assert!(help.contains("\n  -v, --v Level\n"), "{help}");
    assert!(help.contains("(default 10250) (DEPRECATED: This parameter should"));
}

#[test]
fn a_relative_path_starts_at_the_working_directory() {
    let here = std::env::current_dir().unwrap();
    let of_here = |path: &str| here.join(path).to_string_lossy().into_owned();
    let line = read("--kubeconfig dir/x.conf --root-dir ./root --resolv-conf dir/../resolv --cert-dir /p/./q --config=").unwrap();
    assert_eq!(line.flags.kubeconfig, of_here("dir/x.conf"));
    assert_eq!(line.flags.root_dir, of_here("root"));
    assert_eq!(line.fields["/resolvConf"], json!(of_here("resolv")));
    assert_eq!(
        line.flags.cert_dir, "/p/./q",
        "an absolute one stays as it is"
    );
    assert_eq!(line.flags.config, "", "and none stays none");
    assert_eq!(
        line.given["root-dir"], "./root",
        "the log shows what was given"
    );
}

#[test]
fn every_flag_that_names_a_place_of_this_machine_is_a_path() {
    let names_a_place = |flag: &&&Flag| {
        let words = ["-file", "-dir", "-path", "kubeconfig", "resolv-conf"];
        words.iter().any(|word| flag.name.ends_with(word)) && flag.effect != Effect::Ignored
    };
    let flags = table();
    let mut places = flags.iter().filter(names_a_place);
    assert!(places.clone().count() >= 14);
    assert_eq!(places.find(|flag| flag.kind != Kind::Path), None);
}
