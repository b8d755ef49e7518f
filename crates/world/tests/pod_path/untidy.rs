//! What lies among the pods' directories and is none of theirs.
//!
//! Upstream: none

use std::os::unix::fs::symlink;

use world::kubelet::{POD_LOGS_DIR, ROOT_DIR};

use super::*;

impl Node {
    fn at(&self, path: &str) -> PathBuf {
        HostRoot::at(&self.dir).join(path)
    }
}

fn with_data(uid: &str) -> Arc<Pod> {
    let mut object = (*pod(uid, HERE, &["serve"], 5).object).clone();
    let spec = object.spec.as_mut().unwrap();
    spec.volumes = Some(vec![v1::Volume {
        name: "data".to_owned(),
        empty_dir: Some(v1::EmptyDirVolumeSource::default()),
        ..v1::Volume::default()
    }]);
    Arc::new(Pod::new(Arc::new(object), SourceKind::File, Vec::new()).unwrap())
}

fn data_of(uid: &str) -> String {
    format!("{ROOT_DIR}/pods/{uid}/volumes/kubernetes.io~empty-dir/data/kept")
}

/// Names that no pod has: without a UID the pod's directory would be the one of all pods.
const OF_NOBODY: [&str; 8] = [
    "default_x_",
    "default_x_.",
    "default_x_..",
    "__",
    "default_x_a_b",
    "_x_u",
    "..._x_u_",
    "lost+found",
];

#[tokio::test(start_paused = true)]
async fn a_directory_without_a_uid_costs_no_pod_its_data() {
    let mut node = Node::new();
    let pods = [with_data("a"), with_data("b")];
    node.send(&pods);
    node.run_for(30).await;
    for uid in ["a", "b"] {
        std::fs::write(node.at(&data_of(uid)), uid).unwrap();
    }
    for name in OF_NOBODY {
        let directory = node.at(&format!("{POD_LOGS_DIR}/{name}/c"));
        std::fs::create_dir_all(directory).unwrap();
    }
    std::fs::create_dir(node.at(&format!("{ROOT_DIR}/pods/not_a_pod"))).unwrap();
    node.restart().await;
    node.send(&pods);
    node.run_for(120).await;
    for uid in ["a", "b"] {
        assert!(is_ready(&node.status(uid).unwrap()));
        assert_eq!(
            std::fs::read(node.at(&data_of(uid))).unwrap(),
            uid.as_bytes()
        );
    }
    for name in OF_NOBODY {
        assert!(
            node.at(&format!("{POD_LOGS_DIR}/{name}/c")).exists(),
            "{name}"
        );
    }
    assert!(node.at(&format!("{ROOT_DIR}/pods/not_a_pod")).exists());
}

#[tokio::test(start_paused = true)]
async fn directories_of_a_pod_that_nobody_knows_go_and_what_their_links_lead_to_stays() {
    let mut node = Node::new();
    let kept = with_data("a");
    node.send(std::slice::from_ref(&kept));
    node.run_for(30).await;
    std::fs::write(node.at(&data_of("a")), "a").unwrap();
    std::fs::create_dir_all(node.at(&format!("{ROOT_DIR}/pods/left/volumes"))).unwrap();
    std::fs::create_dir_all(node.at(&format!("{POD_LOGS_DIR}/default_gone_left/c"))).unwrap();
    // Another pod's directory under a name of its own.
    symlink("a", node.at(&format!("{ROOT_DIR}/pods/linked"))).unwrap();
    node.restart().await;
    node.send(std::slice::from_ref(&kept));
    node.run_for(120).await;
    for gone in [
        format!("{ROOT_DIR}/pods/left"),
        format!("{POD_LOGS_DIR}/default_gone_left"),
        format!("{ROOT_DIR}/pods/linked"),
    ] {
        assert!(node.at(&gone).symlink_metadata().is_err(), "{gone}");
    }
    assert_eq!(std::fs::read(node.at(&data_of("a"))).unwrap(), b"a");
}
