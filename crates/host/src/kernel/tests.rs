//! OOM reports as kernels wrote them, and kernel parameters in a directory.
//!
//! In:    recorded log lines; a directory with parameters; `/dev/kmsg` if it can be written
//! Out:   kills, changes, errors
//! Upstream: none

use super::*;

fn kills(lines: &[&str]) -> Vec<OomKill> {
    let mut parser = OomParser::default();
    lines
        .iter()
        .filter_map(|line| parser.feed(&LogRecord::parse(line)?))
        .collect()
}

fn kill(at_usec: u64, pid: u32, process: &str, cgroups: (&str, &str), constraint: &str) -> OomKill {
    OomKill {
        at_usec,
        pid,
        process: process.to_owned(),
        container: cgroups.0.to_owned(),
        victim_container: cgroups.1.to_owned(),
        constraint: constraint.to_owned(),
    }
}

#[test]
fn a_report_of_a_new_kernel_ends_with_its_summary_line() {
    let lines = [
        "6,1,100,-;usb 1-1: new device",
        "4,2,200,-;stress invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=968",
        "4,3,201,-;CPU: 0 PID: 77 Comm: stress Not tainted 6.1.0\n SUBSYSTEM=cpu",
        "6,4,202,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=abc,mems_allowed=0,oom_memcg=/kubepods/burstable/podx,task_memcg=/kubepods/burstable/podx/abc,task=stress,pid=77,uid=0",
        "3,5,203,-;Memory cgroup out of memory: Killed process 77 (stress) total-vm:1kB, anon-rss:1kB",
    ];
    let expected = kill(
        202,
        77,
        "stress",
        ("/kubepods/burstable/podx/abc", "/kubepods/burstable/podx"),
        "CONSTRAINT_MEMCG",
    );
    assert_eq!(kills(&lines), std::slice::from_ref(&expected));
    assert_eq!(expected.system_oom_message(), None);
}

#[test]
fn the_machine_running_out_has_the_root_as_victim() {
    let lines = [
        "4,2,200,-;a b invoked oom-killer: gfp_mask=0x0, order=0",
        "6,4,202,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0-1,global_oom,task_memcg=/user.slice,task=a,pid=b,pid=9,uid=1000",
    ];
    let found = kills(&lines);
    assert_eq!(
        found,
        [kill(
            202,
            9,
            "a,pid=b",
            ("/user.slice", "/"),
            "CONSTRAINT_NONE"
        )]
    );
    assert_eq!(
        found[0].system_oom_message().unwrap(),
        "System OOM encountered, victim process: a,pid=b, pid: 9"
    );
    assert_eq!(
        kill(1, 0, "", ("/", "/"), "").system_oom_message().unwrap(),
        "System OOM encountered"
    );
}

#[test]
fn a_report_of_an_old_kernel_ends_with_the_killed_process() {
    let lines = [
        "4,2,200,-;ruby invoked oom-killer: gfp_mask=0x201da, order=0, oom_score_adj=0",
        "6,3,201,-;Task in /mem2 killed as a result of limit of /mem3/sub",
        "3,4,202,-;Memory cgroup out of memory: Kill process 19667 (evil-prog) score 11 or sacrifice child",
        "3,5,203,-;Killed process 19667 (evil (prog)) total-vm:1460016kB, anon-rss:1414008kB, file-rss:4kB",
    ];
    assert_eq!(
        kills(&lines),
        [kill(203, 19667, "evil (prog)", ("/mem2", "/mem3/sub"), "")]
    );
}

#[test]
fn a_report_cut_short_does_not_eat_the_next_and_stray_lines_say_nothing() {
    let lines = [
        "3,1,100,-;Killed process 1 (stray) total-vm:1kB",
        "4,2,200,-;one invoked oom-killer: order=0",
        "4,3,300,-;two invoked oom-killer: order=0",
        "3,4,301,-;Out of memory: Killed process 2 (two) total-vm:1kB",
        "3,5,302,-;Killed process 3 (three) total-vm:1kB",
        "no record at all",
        "4,6;short head",
    ];
    assert_eq!(kills(&lines), [kill(301, 2, "two", ("/", "/"), "")]);
}

#[tokio::test]
async fn an_unreadable_log_is_a_typed_error() {
    let error = OomLog::open(Path::new("/nonexistent/kmsg"), LogStart::Now).unwrap_err();
    assert_eq!(error.to_string(), "open the kernel log /nonexistent/kmsg");
    assert!(matches!(
        error,
        KernelError::OpenLog {
            source: Errno::NOENT,
            ..
        }
    ));
}

/// If this machine's kernel log can be written, a report is written and read back from a log opened at its end.
#[tokio::test]
async fn the_real_log_gives_a_report_written_into_it() {
    let Ok(mut log) = OomLog::open(Path::new("/dev/kmsg"), LogStart::Now) else {
        return;
    };
    let Ok(mut writer) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") else {
        return;
    };
    let name = format!("hk-test-{}", std::process::id());
    for line in [
        format!("{name} invoked oom-killer: test\n"),
        format!("Killed process 4194304 ({name}) test\n"),
    ] {
        // Without its newline a record stays open for more text, and readers do not see it.
        std::io::Write::write_all(&mut writer, line.as_bytes()).unwrap();
    }
    let found = async {
        loop {
            let kill = log.next().await.unwrap();
            if kill.process == name {
                return kill;
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(10), found)
        .await
        .unwrap();
    assert_eq!(
        (found.pid, found.victim_container.as_str()),
        (4_194_304, "/")
    );
}

fn sysctl_tree(name: &str, values: &[(&str, &str)]) -> PathBuf {
    let root = std::env::temp_dir().join(format!("hyperkube-{name}-{}", std::process::id()));
    for (tunable, value) in values {
        let path = root.join("proc/sys").join(tunable);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, value).unwrap();
    }
    root
}

#[test]
fn tunables_are_set_where_they_differ_and_reported_where_they_cannot_be() {
    let root = sysctl_tree(
        "tunables",
        &[
            ("vm/overcommit_memory", "0\n"),
            ("vm/panic_on_oom", "0\n"),
            ("kernel/panic", "x\n"),
        ],
    );
    let outcome = apply_tunables(&root, &TUNABLES, TunablePolicy::Modify);
    assert_eq!(
        outcome.changed,
        [(
            Tunable {
                name: "vm/overcommit_memory",
                value: 1
            },
            0
        )]
    );
    assert_eq!(
        std::fs::read_to_string(root.join("proc/sys/vm/overcommit_memory")).unwrap(),
        "1"
    );
    let errors: Vec<String> = outcome.errors.iter().map(ToString::to_string).collect();
    let unread = [
        "kernel/keys/root_maxbytes",
        "kernel/keys/root_maxkeys",
        "kernel/panic",
        "kernel/panic_on_oops",
    ];
    assert_eq!(
        errors,
        unread.map(|name| format!("read kernel flag {name}"))
    );
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn protected_tunables_are_all_reported_and_none_is_touched() {
    let root = sysctl_tree(
        "protected",
        &[
            ("vm/overcommit_memory", "0\n"),
            ("vm/panic_on_oom", "1\n"),
            ("kernel/panic", "10\n"),
            ("kernel/panic_on_oops", "1\n"),
            ("kernel/keys/root_maxkeys", "200\n"),
            ("kernel/keys/root_maxbytes", "25000000\n"),
        ],
    );
    let outcome = apply_tunables(&root, &TUNABLES, TunablePolicy::Refuse);
    let errors: Vec<String> = outcome.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "invalid kernel flag: kernel/keys/root_maxkeys, expected value: 1000000, actual value: 200",
            "invalid kernel flag: vm/overcommit_memory, expected value: 1, actual value: 0",
            "invalid kernel flag: vm/panic_on_oom, expected value: 0, actual value: 1",
        ]
    );
    assert!(outcome.changed.is_empty());
    assert_eq!(
        std::fs::read_to_string(root.join("proc/sys/vm/overcommit_memory")).unwrap(),
        "0\n"
    );
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn the_kernel_version_is_that_of_proc() {
    assert_eq!(
        kernel_version(),
        std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap()
            .trim()
    );
}
