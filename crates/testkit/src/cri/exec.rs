//! Commands in containers, of ExecSync.
//!
//! In:    the call; the script's outcome of its command
//! Out:   the answer; the command among the done ones of its container's story
//! Calls: service
//! Holds: a command ends with its container
//! Upstream: none (semantics: containerd 1.6)

use std::time::Duration;

use kubelet_api::runtime::v1 as wire;
use tonic::Status;

use super::StandInRuntime;
use super::behaviour::{ContainerCall, ExecOutcome};
use super::service::go_duration;
use super::trace::DoneExec;

impl StandInRuntime {
    pub(super) async fn exec(
        &self,
        request: &wire::ExecSyncRequest,
    ) -> Result<wire::ExecSyncResponse, Status> {
        let id = &request.container_id;
        let (outcome, ended, began, answer_lost) = {
            let state = self.lock();
            let container = state.containers.get(id).ok_or_else(|| {
                Status::not_found(format!("failed to exec in container: failed to find container {id:?} in store: not found"))
            })?;
            if container.state != wire::ContainerState::ContainerRunning {
                let state = container.state.as_str_name();
                return Err(Status::unknown(format!(
                    "failed to exec in container: container is in {state} state"
                )));
            }
            let sandbox = state.sandboxes.get(&container.sandbox_id);
            let sandbox = sandbox
                .map(|sandbox| sandbox.config.as_ref().clone())
                .unwrap_or_default();
            let outcome = (state.scripts.exec)(
                ContainerCall {
                    sandbox: &sandbox,
                    container: &container.config,
                },
                &request.cmd,
            );
            (
                outcome,
                container.exit_seen.clone(),
                state.now(),
                state.loses_answer,
            )
        };
        let timeout = u64::try_from(request.timeout).unwrap_or(0);
        if timeout > 0 && outcome.latency > Duration::from_secs(timeout) {
            tokio::time::sleep(Duration::from_secs(timeout)).await;
            let timeout = go_duration(timeout);
            return Err(Status::deadline_exceeded(format!(
                "failed to exec in container: timeout {timeout} exceeded: context deadline exceeded"
            )));
        }
        if !outcome.latency.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(outcome.latency) => {}
                () = ended.cancelled() => {
                    return Err(Status::unknown("failed to exec in container: container has ended"));
                }
            }
        }
        {
            let mut state = self.lock();
            let ended = state.now();
            if let Some(story) = state.story(id) {
                let (command, code) = (request.cmd.join(" "), outcome.exit_code);
                story.execs.push(DoneExec {
                    command,
                    began,
                    ended,
                    code,
                    answer_lost,
                });
            }
        }
        let ExecOutcome {
            exit_code,
            stdout,
            stderr,
            ..
        } = outcome;
        Ok(wire::ExecSyncResponse {
            stdout,
            stderr,
            exit_code,
        })
    }
}
