//! The range is told once, the Node's goes before the configuration's, and a failure is tried again.

use std::collections::BTreeMap;
use std::sync::Arc;

use kubelet_cluster::reflector::{ObjectKey, Snapshot};
use kubelet_cri::{Metrics, Timeouts};
use prometheus::Registry;
use testkit::cri::{StandInConfig, StandInRuntime};
use tokio::sync::watch;

use super::*;

fn snapshot(ranges: &[&str]) -> Option<Arc<Snapshot<Node>>> {
    let node = serde_json::json!({ "metadata": { "name": "one" }, "spec": { "podCIDRs": ranges } });
    let key = ObjectKey {
        namespace: String::new(),
        name: "one".to_owned(),
    };
    Some(Arc::new(Snapshot {
        objects: [(key, Arc::new(serde_json::from_value(node).unwrap()))].into(),
        resource_version: "1".to_owned(),
        unreadable: BTreeMap::new(),
    }))
}

/// One round; what was told, empty when nothing was.
async fn round(cidr: &mut PodCidr) -> Result<String, RoundError> {
    let seen = cidr.observe(WakeReason::Clock).await.unwrap();
    let plan = cidr.decide(seen, Timestamp::UNIX_EPOCH);
    let told = plan.new.clone().unwrap_or_default();
    cidr.act(plan).await.map(|()| told)
}

#[tokio::test(start_paused = true)]
async fn a_range_is_told_when_it_is_another() {
    let runtime = StandInRuntime::new(StandInConfig::default());
    let timeouts = Timeouts {
        request: Duration::from_secs(2),
    };
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let cri = Client::from_channels(runtime.connect(), runtime.connect(), timeouts, metrics);
    let (sender, node) = watch::channel(None);
    let mut cidr = PodCidr::new(cri, Some("10.1.0.0/24".to_owned()), Some(node));
    assert_eq!(round(&mut cidr).await.unwrap(), "10.1.0.0/24");
    assert_eq!(round(&mut cidr).await.unwrap(), "");
    sender.send_replace(snapshot(&[]));
    assert_eq!(round(&mut cidr).await.unwrap(), "");
    sender.send_replace(snapshot(&["10.2.0.0/24", "fd00::/64"]));
    cidr.changed().await;
    runtime.set_faults(
        testkit::faults::FaultPlan::new(1, testkit::faults::FaultRates::none()).at(
            "UpdateRuntimeConfig",
            1,
            testkit::faults::Fault::FailBefore(tonic::Code::Internal),
        ),
    );
    assert!(round(&mut cidr).await.is_err());
    assert_eq!(round(&mut cidr).await.unwrap(), "10.2.0.0/24,fd00::/64");
    assert_eq!(round(&mut cidr).await.unwrap(), "");
}
