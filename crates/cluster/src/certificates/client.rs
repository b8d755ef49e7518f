//! The node's client certificate, from bootstrap to its last rotation.
//!
//! In:    the client that shows it; a bootstrap with a client of its own; whether to rotate
//! Out:   calls of the client held back while there is no certificate, and let go when there is one
//! Calls: wiring, one task
//! Holds: no other task waits for this one: pods that need no API server run meanwhile; bootstrap is retried with the same key
//!        until it succeeds; an expired certificate is bootstrapped again without a restart of the process
//! Upstream: pkg/kubelet/certificate/{bootstrap/bootstrap.go,transport.go}; differences: upstream ends the process when the
//!           certificate has ended, or the bootstrap failed, to begin anew

use std::time::Duration;

use kubelet_model::error_text::error_text;
use tokio::sync::watch;

use super::{Bootstrap, CertificateStore, Listener, Purpose, RETRY, Rotation};
use crate::client::Client;
use crate::kubeconfig::Server;
use kubelet_model::dice::Dice;

/// How often the end of the certificate is looked for.
const LOOK: Duration = Duration::from_secs(10);
/// How often its end is spoken of when nothing can be done.
const REMIND: Duration = Duration::from_secs(300);

/// What the task works with.
#[derive(Debug)]
pub struct ClientCertificate {
    /// Shows the certificate.
    pub client: Client,
    /// Node name.
    pub node: String,
    /// How to get the first one: where to, by which client, of which server.
    pub bootstrap: Option<(Bootstrap, Client, Server)>,
    /// Where rotated ones go; `None` is no rotation.
    pub rotation: Option<CertificateStore>,
    /// Who is told.
    pub listener: Listener,
    /// For deadlines and waits.
    pub dice: Dice,
}

impl ClientCertificate {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        loop {
            self.bootstrap().await;
            let rotation = self.rotation();
            tokio::select! {
                biased;
                // Cancel: both begin anew with the next certificate.
                () = rotation => {}
                () = self.ended() => {}
            }
        }
    }

    /// Gets a certificate if there is none that is good; returns when there is one, or nobody can help.
    async fn bootstrap(&mut self) {
        let Some((bootstrap, asks, server)) = &self.bootstrap else {
            return;
        };
        let client = &self.client;
        let mut failures = 0;
        while bootstrap.is_needed(client.clock().now()).await {
            if client.is_let_go() {
                client.set_waiting(Some(
                    "the client certificate has ended, another one is asked for".to_owned(),
                ));
            }
            tokio::select! {
                biased;
                // Cancel: the key is kept, the request is found again by it.
                done = bootstrap.run(asks, server, &mut self.dice) => match done {
                    Ok(()) => {
                        tracing::info!(kubeconfig = %bootstrap.kubeconfig.display(), "Client certificate was issued");
                        break;
                    }
                    Err(error) => {
                        failures += 1;
                        let why = error_text(&error);
                        tracing::warn!(why, failures, "Client certificate cannot be had");
                        client.set_waiting(Some(format!("there is no client certificate: {why}")));
                    }
                },
                // A clock that was wrong made a good one look old.
                () = is_good(bootstrap, client) => break,
            }
            tokio::time::sleep(self.dice.jitter(RETRY.after(failures), 0.1)).await;
        }
        client.credentials_changed();
        client.set_waiting(None);
    }

    /// Keeps it current.
    fn rotation(&mut self) -> impl Future<Output = ()> + Send + 'static {
        let (purposes, purpose) = watch::channel(Purpose::Client);
        let rotation = self.rotation.clone().map(|store| {
            let client = self.client.clone();
            Rotation::new(client, store, &self.node, purpose, self.dice.split())
                .telling(self.listener.clone())
        });
        async move {
            let _purposes = purposes;
            match rotation {
                Some(rotation) => rotation.run().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Resolves when the certificate has ended and a bootstrap can help; else only tells of it.
    async fn ended(&self) {
        let mut told = None::<tokio::time::Instant>;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.client.clock().now();
            let ended = self.client.certificate_validity();
            let Some(ended) = ended.filter(|validity| validity.not_after <= now) else {
                continue;
            };
            if told.is_none_or(|at| at.elapsed() >= REMIND) {
                told = Some(tokio::time::Instant::now());
                tracing::error!(ended = %ended.not_after, %now, "The currently active client certificate has expired");
            }
            if let Some((bootstrap, ..)) = &self.bootstrap
                && bootstrap.is_needed(now).await
            {
                return;
            }
        }
    }
}

async fn is_good(bootstrap: &Bootstrap, client: &Client) {
    loop {
        tokio::time::sleep(Duration::from_secs(60)).await;
        if !bootstrap.is_needed(client.clock().now()).await {
            return;
        }
    }
}
