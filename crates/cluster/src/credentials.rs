//! The client's credentials, kept current: token files and certificate files are re-read, exec plugins are run again.
//!
//! In:    the kubeconfig's words; word of a 401; word that files changed
//! Out:   the identity of the next call
//! Calls: client
//! Holds: one refresh at a time, which continues if the call that wanted it is cancelled; if a refresh fails, the old credential
//!        is used until it expires; a new certificate starts a new generation of connections
//! Upstream: client-go/transport (token_source.go, cert_rotation.go), client-go/plugin/pkg/client/auth/exec; differences:
//!           certificate files are looked at each minute (upstream: each 5)

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::rt::Executor as _;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use kubelet_tls::{Certificate, Validity};
use rustls::sign::CertifiedKey;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::Instant;

use crate::clock::WallClock;
use crate::exec_plugin;
use crate::figures::Figures;
use crate::kubeconfig::{Kubeconfig, Login, Material, Secret, Server};
use crate::tls::{certified_key, read_file, read_material};

/// How long what a file said is believed.
const READ_AGAIN: Duration = Duration::from_secs(60);
/// After a 401 the source is asked again, but not more often than this.
const REFUSED_GAP: Duration = Duration::from_secs(10);
/// After a failed look nobody looks for this long.
const FAILED_GAP: Duration = Duration::from_secs(2);
/// A credential is renewed this long before it ends.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);

/// What a call shows.
pub(crate) struct Identity {
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) certificate: Option<Arc<CertifiedKey>>,
    pub(crate) validity: Option<Validity>,
    /// Counts certificates.
    pub(crate) generation: u64,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("validity", &self.validity)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    identity: Option<Arc<Identity>>,
    looked: Option<Instant>,
    expires: Option<Timestamp>,
    must_look: bool,
    /// When the last look failed, and why.
    failed: Option<(Instant, String)>,
    /// The PEM texts that the certificate came from.
    pair: Option<(Secret, Secret)>,
}

/// The credentials of one kubeconfig.
#[derive(Debug)]
pub(crate) struct Credentials {
    config: Kubeconfig,
    clock: WallClock,
    state: Mutex<State>,
    /// A file with certificate and key that goes before the kubeconfig's as soon as it is there and good.
    preferred: OnceLock<PathBuf>,
    /// The last certificate came from there.
    is_preferred: AtomicBool,
    /// Why there are none yet; nobody looks before that is over.
    waits: watch::Sender<Option<String>>,
    looking: Arc<Semaphore>,
    figures: Arc<OnceLock<Figures>>,
}

impl Credentials {
    pub(crate) fn new(
        config: Kubeconfig,
        clock: WallClock,
        figures: Arc<OnceLock<Figures>>,
    ) -> Self {
        Self {
            config,
            clock,
            state: Mutex::default(),
            preferred: OnceLock::new(),
            is_preferred: AtomicBool::new(false),
            waits: watch::Sender::new(None),
            looking: Arc::new(Semaphore::new(1)),
            figures,
        }
    }

    /// Whether a program gives them.
    pub(crate) fn has_program(&self) -> bool {
        matches!(self.config.login, Login::Exec(_))
    }

    pub(crate) fn server(&self) -> &Server {
        &self.config.server
    }

    /// Rotated pairs come to this file.
    pub(crate) fn prefer(&self, path: PathBuf) {
        // The first one stays.
        let _kept = self.preferred.set(path);
    }

    /// Holds calls back, for this reason, or lets them go.
    pub(crate) fn set_waiting(&self, why: Option<String>) {
        self.waits.send_replace(why);
    }

    /// Where the client certificate is.
    fn place(&self) -> String {
        let is_preferred = self.is_preferred.load(Ordering::Relaxed);
        let preferred = self.preferred.get().filter(|_| is_preferred);
        let pair = self.config.pair.as_ref().map(|pair| &pair.certificate);
        match (preferred, pair) {
            (Some(path), _) | (None, Some(Material::File(path))) => path.display().to_string(),
            (None, Some(Material::Data(_))) => {
                "client-certificate-data of the kubeconfig".to_owned()
            }
            (None, None) => "credential program".to_owned(),
        }
    }

    /// What people must know when a call failed: the certificate that it showed is out of date.
    pub(crate) fn out_of_date(&self) -> Option<String> {
        let validity = self.last()?.validity?;
        let now = self.clock.now();
        let what = if validity.not_after < now {
            format!("ended at {}", validity.not_after)
        } else if now < validity.not_before {
            format!("is not good before {}", validity.not_before)
        } else {
            return None;
        };
        let place = self.place();
        Some(format!(
            "the client certificate {place} {what}; the time here is {now}"
        ))
    }

    /// What calls are held back for.
    pub(crate) fn waiting(&self) -> Option<String> {
        self.waits.borrow().clone()
    }

    /// The identity now.
    pub(crate) async fn identity(self: &Arc<Self>) -> Result<Arc<Identity>, String> {
        let mut waits = self.waits.subscribe();
        let over = waits.wait_for(Option::is_none).await.map(drop);
        over.map_err(|error| error.to_string())?;
        if let Some(identity) = self.current() {
            return Ok(identity);
        }
        let turn = Arc::clone(&self.looking).acquire_owned().await;
        let turn = turn.map_err(|error| error.to_string())?;
        let (sender, found) = oneshot::channel();
        let own = Arc::clone(self);
        // A task of its own: a program that takes longer than this call may wait is not ended with it.
        TokioExecutor::new().execute(async move {
            let found = own.look_in_turn().await;
            drop(turn);
            // Whoever asked may have given up.
            let _taken = sender.send(found);
        });
        found.await.map_err(|error| error.to_string())?
    }

    async fn look_in_turn(&self) -> Result<Arc<Identity>, String> {
        // Somebody else may have looked meanwhile.
        if let Some(identity) = self.current() {
            return Ok(identity);
        }
        // Those who waited for a look that failed do not each try again.
        let failed = self.lock().failed.clone();
        if let Some((_, why)) = failed.filter(|(at, _)| at.elapsed() < FAILED_GAP) {
            return Err(why);
        }
        match self.look().await {
            Ok(identity) => Ok(identity),
            Err(why) => self.fallback(&why).ok_or(why),
        }
    }

    /// The server refused this one: look again, unless that was done just now.
    pub(crate) fn refused(&self, identity: &Arc<Identity>) {
        let mut state = self.lock();
        let is_current = state
            .identity
            .as_ref()
            .is_some_and(|now| Arc::ptr_eq(now, identity));
        let is_recent = state
            .looked
            .is_some_and(|looked| looked.elapsed() < REFUSED_GAP);
        if is_current && !is_recent {
            state.must_look = true;
        }
    }

    /// Files changed: look before the next call.
    pub(crate) fn look_again(&self) {
        self.lock().must_look = true;
    }

    /// The identity of the last look, however old.
    pub(crate) fn last(&self) -> Option<Arc<Identity>> {
        self.lock().identity.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Option<Arc<Identity>> {
        let state = self.lock();
        let is_read_again = self.config.pair.is_some()
            || self.preferred.get().is_some()
            || matches!(self.config.login, Login::TokenFile(..));
        let is_old = state
            .looked
            .is_none_or(|looked| is_read_again && looked.elapsed() >= READ_AGAIN);
        let is_recent = state
            .looked
            .is_some_and(|looked| looked.elapsed() < REFUSED_GAP);
        // By a wrong clock even the newest credential has ended: the server says whether it has.
        let is_ending = !is_recent
            && state
                .expires
                .is_some_and(|at| self.clock.until(at) <= EXPIRY_MARGIN);
        state
            .identity
            .clone()
            .filter(|_| !state.must_look && !is_old && !is_ending)
    }

    /// What was good before and has not ended; the next look comes after the usual time.
    fn fallback(&self, why: &str) -> Option<Arc<Identity>> {
        let mut state = self.lock();
        let has_ended = state
            .expires
            .is_some_and(|at| self.clock.until(at).is_zero());
        let Some(identity) = state.identity.clone().filter(|_| !has_ended) else {
            state.failed = Some((Instant::now(), why.to_owned()));
            return None;
        };
        tracing::warn!(
            why,
            "Credentials cannot be renewed, the ones before are used"
        );
        state.looked = Some(Instant::now());
        state.must_look = false;
        Some(identity)
    }

    async fn look(&self) -> Result<Arc<Identity>, String> {
        let preferred = self.preferred_pair().await;
        self.is_preferred
            .store(preferred.is_some(), Ordering::Relaxed);
        let mut pair = match (preferred, &self.config.pair) {
            (Some(preferred), _) => Some(preferred),
            (None, Some(pair)) => {
                let certificate = read_material(&pair.certificate).await?;
                Some((certificate, read_material(&pair.key).await?))
            }
            (None, None) => None,
        };
        let mut expires = None;
        let authorization = match &self.config.login {
            Login::None => None,
            Login::Token(token) => Some(bearer(token)?),
            Login::Basic(name, password) => Some(basic(name, password)?),
            Login::TokenFile(path, first) => {
                let token = match (read_file(path).await, first) {
                    (Ok(text), _) => Secret(text.trim_ascii().to_vec()),
                    (Err(_), Some(first)) => first.clone(),
                    (Err(why), None) => return Err(format!("token file {why}")),
                };
                if token.0.is_empty() {
                    return Err(format!("token file {}: is empty", path.display()));
                }
                Some(bearer(&token)?)
            }
            Login::Exec(config) => {
                let given = exec_plugin::run(config, &self.config.server).await?;
                expires = given.expires;
                pair = given.pair.or(pair);
                given.token.as_ref().map(bearer).transpose()?
            }
        };
        self.keep(pair, authorization, expires)
    }

    /// The pair of the preferred file, if it can be used and has not ended.
    async fn preferred_pair(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let text = read_file(self.preferred.get()?).await.ok()?;
        certified_key(&text, &text).ok()?;
        let certificate = Certificate::from_pem(&text).ok()?;
        let has_ended = certificate.validity.not_after <= self.clock.now();
        (!has_ended).then(|| (text.clone(), text))
    }

    fn count_replaced(&self, old: Validity) {
        let age = self.clock.now().duration_since(old.not_before);
        if let (Some(figures), Ok(age)) = (self.figures.get(), age.try_into()) {
            figures.certificate_replaced(age);
        }
    }

    fn keep(
        &self,
        pair: Option<(Vec<u8>, Vec<u8>)>,
        authorization: Option<HeaderValue>,
        expires: Option<Timestamp>,
    ) -> Result<Arc<Identity>, String> {
        let pair = pair.map(|(certificate, key)| (Secret(certificate), Secret(key)));
        let mut state = self.lock();
        let before = state.identity.clone();
        let is_same_pair = before.is_some() && state.pair == pair;
        let (certificate, validity, generation) = match (&pair, before) {
            (_, Some(before)) if is_same_pair => {
                if before.authorization == authorization {
                    state.looked = Some(Instant::now());
                    state.must_look = false;
                    state.expires = expires;
                    return Ok(before);
                }
                (
                    before.certificate.clone(),
                    before.validity,
                    before.generation,
                )
            }
            (pair, before) => {
                let old = before.as_ref().and_then(|before| before.validity);
                let generation = before.map_or(0, |before| before.generation + 1);
                let key = pair
                    .as_ref()
                    .map(|(certificate, key)| certified_key(&certificate.0, &key.0))
                    .transpose()
                    .map_err(|why| format!("{}: {why}", self.place()))?;
                let first = key.as_ref().and_then(|key| key.cert.first());
                let read = first.and_then(|first| Certificate::from_der(first).ok());
                let validity = read.map(|certificate| certificate.validity);
                if let Some(old) = old.filter(|_| self.has_program()) {
                    self.count_replaced(old);
                }
                (key, validity, generation)
            }
        };
        let identity = Arc::new(Identity {
            authorization,
            certificate,
            validity,
            generation,
        });
        *state = State {
            identity: Some(Arc::clone(&identity)),
            looked: Some(Instant::now()),
            expires,
            must_look: false,
            failed: None,
            pair,
        };
        Ok(identity)
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, String> {
    secret_header([b"Bearer ", token.0.as_slice()].concat())
}

fn basic(name: &str, password: &Secret) -> Result<HeaderValue, String> {
    let both = [name.as_bytes(), b":", password.0.as_slice()].concat();
    let encoded = serde_json::to_value(ByteString(both)).map_err(|error| error.to_string())?;
    let encoded = encoded.as_str().unwrap_or_default();
    secret_header(format!("Basic {encoded}").into_bytes())
}

fn secret_header(bytes: Vec<u8>) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_maybe_shared(hyper::body::Bytes::from(bytes))
        .map_err(|_| "the token holds characters that cannot be sent".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
