//! Credentials for image pulls, by registry, from docker configuration in Secrets and files.
//!
//! In:    `.dockercfg` and `.dockerconfigjson` texts; an image's name
//! Out:   the credentials to try, most specific first; which pull secrets could not be had
//! Calls: container_start (a pod's pull secrets), act/images (files of the node)
//! Holds: neither `Debug` nor an error shows a user or a password
//! Upstream: pkg/credentialprovider/config.go, keyring.go, secrets/secrets.go, kubelet_pods.go (getPullSecretsForPod); 1.36

use std::cmp::Reverse;
use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1;
use kubelet_model::objects::ObjectState;
use serde::Deserialize;
use serde_json::Value;

use crate::shapes::secrets::Credential;
use crate::shapes::secrets::DockerConfigError;
use crate::shapes::secrets::PullSecrets;
use crate::shapes::view::PodView;

/// Whose credentials are meant when an image names no registry.
const DEFAULT_REGISTRY: &str = "index.docker.io";

/// In which form a docker configuration is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DockerConfigForm {
    /// `config.json`, `.dockerconfigjson`: registries below `auths`.
    Json,
    /// `.dockercfg`: registries at the top.
    Legacy,
}

/// Credentials by registry, with a path below it where one is said; hosts may have wildcards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keyring {
    /// The most specific come first: keys in falling order.
    keys: BTreeMap<Reverse<String>, Vec<Credential>>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Entry {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
}

impl Keyring {
    /// Adds what a docker configuration says.
    ///
    /// # Errors
    /// When it cannot be understood; nothing was added then.
    pub fn add(&mut self, text: &[u8], form: DockerConfigForm) -> Result<(), DockerConfigError> {
        let unreadable = |_| DockerConfigError::Unreadable;
        let mut value: Value = serde_json::from_slice(text).map_err(unreadable)?;
        if form == DockerConfigForm::Json {
            let object = value.as_object_mut().ok_or(DockerConfigError::Unreadable)?;
            value = object.remove("auths").unwrap_or(Value::Null);
        }
        let entries: Option<BTreeMap<String, Entry>> =
            serde_json::from_value(value).map_err(unreadable)?;
        let mut found = Vec::new();
        for (place, entry) in entries.into_iter().flatten() {
            let credential = credential_of(entry)?;
            found.extend(key_of(&place).map(|key| (key, credential)));
        }
        for (key, credential) in found {
            self.keys.entry(Reverse(key)).or_default().push(credential);
        }
        Ok(())
    }

    /// Those that are for an image, in the order in which they are tried. The name is whole: with its registry.
    pub fn for_image(&self, repository: &str) -> Vec<Credential> {
        let matching = self
            .keys
            .iter()
            .filter(|(key, _)| is_for(&key.0, repository));
        let found: Vec<Credential> = matching.flat_map(|(_, all)| all).cloned().collect();
        if !found.is_empty() || !is_of_default_registry(repository) {
            return found;
        }
        let default = self.keys.get(&Reverse(DEFAULT_REGISTRY.to_owned()));
        default.cloned().unwrap_or_default()
    }
}

fn credential_of(entry: Entry) -> Result<Credential, DockerConfigError> {
    let Some(auth) = entry.auth.filter(|auth| !auth.is_empty()) else {
        return Ok(Credential {
            username: entry.username.unwrap_or_default(),
            password: entry.password.unwrap_or_default(),
        });
    };
    // Written with and without padding.
    let mut auth: String = auth.trim().to_owned();
    while !auth.ends_with('=') && !auth.len().is_multiple_of(4) {
        auth.push('=');
    }
    let bytes: ByteString =
        serde_json::from_value(Value::String(auth)).map_err(|_| DockerConfigError::Auth)?;
    let text = String::from_utf8(bytes.0).map_err(|_| DockerConfigError::Auth)?;
    let (username, password) = text.split_once(':').ok_or(DockerConfigError::Auth)?;
    Ok(Credential {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

/// The registry's host with its port and the path below it, without scheme and API version; `None` for what is no place.
fn key_of(place: &str) -> Option<String> {
    let place = place
        .strip_prefix("https://")
        .or_else(|| place.strip_prefix("http://"))
        .unwrap_or(place);
    let place = place.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = place.find('/').map_or((place, ""), |at| place.split_at(at));
    if host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let host = host.rsplit('@').next().unwrap_or_default();
    let path = match path.strip_prefix("/v1/").or(path.strip_prefix("/v2/")) {
        Some(rest) => format!("/{rest}"),
        None => path.to_owned(),
    };
    Some(if path == "/" {
        host.to_owned()
    } else {
        format!("{host}{path}")
    })
}

/// Whether a key is for this image: same port, as many parts of the host and each alike, and the path begins as the key's.
fn is_for(key: &str, repository: &str) -> bool {
    let split = |place: &str| -> (Vec<String>, Option<String>, String) {
        let (host, path) = place.find('/').map_or((place, ""), |at| place.split_at(at));
        let (host, port) = host
            .rsplit_once(':')
            .map_or((host, None), |(host, port)| (host, Some(port.to_owned())));
        let parts = host.split('.').map(str::to_owned).collect();
        (parts, port, path.to_owned())
    };
    let (key_host, key_port, key_path) = split(key);
    let (host, port, path) = split(repository);
    key_port == port
        && key_host.len() == host.len()
        && path.starts_with(&key_path)
        && key_host.iter().zip(&host).all(|(glob, part)| {
            is_like(
                &glob.chars().collect::<Vec<_>>(),
                &part.chars().collect::<Vec<_>>(),
            )
        })
}

/// Longer than any part of a host; what is longer is like nothing.
const LONGEST_PART: usize = 255;

/// Shell wildcards: `*`, `?` and `[a-z]`, `[^a-z]`. Who makes a pull secret writes the pattern, and the image's name too: the work is
/// bounded by the product of their lengths, and the stack by nothing of them.
fn is_like(glob: &[char], text: &[char]) -> bool {
    if glob.len().max(text.len()) > LONGEST_PART {
        return false;
    }
    let (mut at, mut done) = (0, 0);
    // After the last `*`, and where what it stands for ends at present.
    let mut star = None;
    while at < glob.len() || done < text.len() {
        let left = glob.get(at..).unwrap_or_default();
        if left.first() == Some(&'*') {
            at += 1;
            star = Some((at, done));
            continue;
        }
        match (text.get(done).and_then(|c| width(left, *c)), star) {
            (Some(width), _) => {
                at += width;
                done += 1;
            }
            // The last `*` stands for one more; one before it need not, as this one could as well.
            (None, Some((after, end))) if end < text.len() => {
                star = Some((after, end + 1));
                at = after;
                done = end + 1;
            }
            (None, _) => return false,
        }
    }
    true
}

/// How much of a pattern without `*` at its beginning stands for this character.
fn width(glob: &[char], c: char) -> Option<usize> {
    match glob {
        ['?', ..] => Some(1),
        ['[', rest @ ..] => {
            let end = rest.iter().position(|c| *c == ']').filter(|end| *end > 0)?;
            let class = rest.get(..end).unwrap_or_default();
            let (is_negated, class) = match class.split_first() {
                Some(('^', class)) => (true, class),
                Some(_) | None => (false, class),
            };
            (is_in(class, c) != is_negated).then_some(end + 2)
        }
        [same, ..] => (*same == c).then_some(1),
        [] => None,
    }
}

fn is_in(mut class: &[char], c: char) -> bool {
    loop {
        class = match class {
            [low, '-', high, ..] if *low <= c && c <= *high => return true,
            [_, '-', _, rest @ ..] => rest,
            [one, ..] if *one == c => return true,
            [_, rest @ ..] => rest,
            [] => return false,
        };
    }
}

fn is_of_default_registry(repository: &str) -> bool {
    match repository.split_once('/') {
        None => !repository.is_empty(),
        Some(("docker.io" | "index.docker.io", _)) => true,
        Some((first, _)) => !first.is_empty() && !first.contains(['.', ':']),
    }
}

/// An image's name without tag and digest, with the registry that it leaves out.
pub fn full_repository(image: &str) -> String {
    let image = image.split('@').next().unwrap_or_default();
    let last = image.rfind('/').map_or(0, |at| at + 1);
    let tag = image.get(last..).and_then(|name| name.find(':'));
    let image = tag.map_or(image, |at| image.split_at(last + at).0);
    let is_host =
        |first: &str| first == "localhost" || first.contains(['.', ':']) || has_upper(first);
    match image.split_once('/') {
        Some(("docker.io" | "index.docker.io", rest)) if !rest.contains('/') => {
            format!("docker.io/library/{rest}")
        }
        Some(("index.docker.io", rest)) => format!("docker.io/{rest}"),
        Some((first, _)) if is_host(first) => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

fn has_upper(text: &str) -> bool {
    text.chars().any(|c| c.is_uppercase())
}

/// The pod's credentials for an image.
pub fn pull_secrets(view: &PodView<'_>, image: &str) -> PullSecrets {
    let mut keyring = Keyring::default();
    let mut found = PullSecrets::default();
    for name in named(view) {
        let Some(ObjectState::Known(secret)) = view.inputs.objects.secrets.get(name) else {
            found.missing.push(name.to_owned());
            continue;
        };
        let data = |key: &str| secret.data.as_ref()?.get(key).filter(|d| !d.0.is_empty());
        let added = match secret.type_.as_deref() {
            Some("kubernetes.io/dockerconfigjson") => {
                data(".dockerconfigjson").map(|text| keyring.add(&text.0, DockerConfigForm::Json))
            }
            Some("kubernetes.io/dockercfg") => {
                data(".dockercfg").map(|text| keyring.add(&text.0, DockerConfigForm::Legacy))
            }
            Some(_) | None => None,
        };
        if let Some(Err(error)) = added {
            found.unreadable.get_or_insert(error);
        }
    }
    found.credentials = keyring.for_image(&full_repository(image));
    found
}

/// Whether the API server has not said yet what some of them are.
pub fn waits_for_pull_secrets(view: &PodView<'_>) -> bool {
    named(view).any(|name| {
        matches!(
            view.inputs.objects.secrets.get(name),
            Some(ObjectState::Unknown { .. })
        )
    })
}

fn named<'a>(view: &PodView<'a>) -> impl Iterator<Item = &'a str> {
    let spec: &'a v1::PodSpec = view.pod.spec();
    let names = spec.image_pull_secrets.iter().flatten();
    names
        .map(|r| r.name.as_str())
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
